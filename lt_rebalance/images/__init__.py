"""A user's images: an npz or a folder, read by location, identified by content, prepared once."""
