"""The state of a study: status, costs, concerns, TensorBoard."""
