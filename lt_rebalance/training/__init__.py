"""Train lanes of one configuration: batches, steps, rounds and metrics, in plain torch."""
