"""The command lines of sweeps and searches."""
