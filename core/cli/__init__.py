"""The command line, `audio-emotion`; each command imports what it needs when it runs."""
