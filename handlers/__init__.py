"""Lambda entry points. Each parses its event, calls core, and returns the answer."""
