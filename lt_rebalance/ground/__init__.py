"""What all other wings import: errors, metrics, text, named random streams."""
