"""`python -m core.cli`, the same as `audio-emotion`."""

from core.cli.app import main

main()
