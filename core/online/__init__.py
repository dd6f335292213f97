"""What comes over HTTP: a recording in, its result out at once, and the shelf that keeps results and takes uploads."""
