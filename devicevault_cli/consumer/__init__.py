"""The consumer: entries become rows."""
