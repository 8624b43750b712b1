"""The results table: index, duplicates, tables."""
