"""Training of generators, from lanes to curves and weights; plain torch."""
