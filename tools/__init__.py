"""The layers of the function's image, one folder each, and what builds and tries it."""
