"""What every other part stands on: errors, metrics, text, named random streams."""
