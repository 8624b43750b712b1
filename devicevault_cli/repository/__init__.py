"""The shared repository library: all that dvctl knows of SQL."""
