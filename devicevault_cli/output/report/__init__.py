"""The report of `verify`: on a terminal, as an HTML page, as Markdown."""
