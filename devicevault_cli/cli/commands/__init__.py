"""One file for each typed word: parse, call an operation, print."""
