"""What comes over HTTP: a recording in, its result out at once, and the store that keeps results and takes uploads."""
