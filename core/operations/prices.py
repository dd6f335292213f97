"""List prices of AWS in US dollars in us-east-1, and the requests that one recording makes.

docs/decisions/0034-prices.md has the source and the date of each price. Other regions have other prices.
"""

from collections.abc import Mapping

GB_S_USD: Mapping[str, float] = {"x86_64": 16.6667e-6, "arm64": 13.3334e-6}
"""Lambda's price of a GB-second by architecture, in the first tier of a month (https://aws.amazon.com/lambda/pricing/)."""
TMP_GB_S_USD = 0.0309e-6
"""Lambda's price of a GB-second of /tmp above 512 MB."""
FREE_TMP_MB = 512
INVOCATION_USD = 0.2e-6

S3_WRITE_USD, S3_READ_USD = 5e-6, 0.4e-6
"""A PUT, and a GET or HEAD. A DELETE is free."""
SQS_REQUEST_USD = 0.4e-6
JOB_USD, OBJECT_USD = 0.25, 1e-6
"""A job of S3 Batch Operations, and each object in it."""

UPLOAD_READS, RESULT_READS = 2, 2
"""S3 reads for one recording: HEAD and GET of the upload; HEAD of the result before and after the lease is taken.

tests/integration/test_scale.py counts the requests that a delivery makes.
"""
RESULT_PUTS, LEASE_PUTS, LEASE_DELETES = 1, 1, 1
READS_IF_DONE = 2
"""S3 reads for a recording that already has its result: HEAD of the upload, HEAD of the result."""
SQS_REQUESTS = 3
"""A message is sent, received and deleted."""


def function_usd(seconds: float, memory_mb: int, architecture: str, *, tmp_mb: int = FREE_TMP_MB) -> float:
    """Return the price of a function's billed time, without its invocations.

    Parameters
    ----------
    architecture
        `x86_64` or `arm64`.
    tmp_mb
        Size of /tmp.
    """
    tmp_usd = max(0, tmp_mb - FREE_TMP_MB) / 1024 * TMP_GB_S_USD
    return seconds * (memory_mb / 1024 * GB_S_USD[architecture] + tmp_usd)
