"""Generators of conditional GANs, and the registry that names them."""
