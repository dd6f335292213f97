"""Which emotion is heard in recorded speech, how surely, and when: everything that is not Lambda's."""

__version__ = "1.0.0"
