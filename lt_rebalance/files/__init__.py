"""The file operations that a store needs, in a directory or a bucket."""
