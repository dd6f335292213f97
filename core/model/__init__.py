"""A waveform in, six probabilities out."""
