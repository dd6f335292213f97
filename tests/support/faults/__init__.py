"""Fault injection: a proxy in front of S3 and SQS, and a model of the queue with workers that can be killed."""
