"""Images of the user's own: an npz or a folder, read by location, known by content, prepared once."""
