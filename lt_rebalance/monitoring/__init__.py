"""How a study stands: status, costs, concerns, TensorBoard."""
