"""What can I type? Each module parses, calls an operation and prints."""
