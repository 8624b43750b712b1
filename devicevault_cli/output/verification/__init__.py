"""How a verification is told: on a terminal, as an HTML page, as Markdown."""
