"""Text for people: units, escaping, Markdown, the terminal. It imports nothing of the harness."""
