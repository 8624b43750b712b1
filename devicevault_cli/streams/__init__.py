"""The shared stream library: all that dvctl knows of Redis."""
