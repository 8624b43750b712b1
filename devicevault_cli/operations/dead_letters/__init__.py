"""Dead letters: list, show, retry, drop."""
