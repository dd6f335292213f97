"""Recognise emotion in recorded speech: everything that does not depend on AWS Lambda's events or on HTTP."""

__version__ = "1.0.0"
