"""A media file in, speech segments at 16 kHz out."""
