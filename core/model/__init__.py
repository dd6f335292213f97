"""A waveform in, a probability for each emotion out."""
