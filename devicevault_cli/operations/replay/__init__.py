"""Chosen entries through the consumer's write path."""
