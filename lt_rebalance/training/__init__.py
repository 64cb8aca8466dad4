"""Lanes of one configuration, from their images to their curves; plain torch."""
