"""Files that ship with the package: the embedded mini set, its licence, and the script that made it."""
