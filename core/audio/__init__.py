"""A file in, utterances at 16 kHz out."""
