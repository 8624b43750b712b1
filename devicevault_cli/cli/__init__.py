"""The command line: what a person can type."""
