"""Over-samplers with the interface of imbalanced-learn: no Ray, no store."""
