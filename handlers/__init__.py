"""Lambda entry points: each parses its event, calls core, and answers."""
