"""The files that undo changes: list and delete."""
