"""Programs for developers, which run the function in its image and generate committed files."""
