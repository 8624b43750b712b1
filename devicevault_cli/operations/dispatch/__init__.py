"""Hand configurations to the storage workers."""
