"""Programs for developers: they build and try the image, and generate files that are committed."""
