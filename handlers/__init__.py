"""One thin module per Lambda entry point: read the event, call core, answer."""
