"""Train generators in lanes, in plain torch."""
