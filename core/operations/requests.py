"""What a recording asks of S3, for what is reckoned beforehand: the price of a backfill, the drain of a backlog.

tests/integration/test_scale.py counts the calls that are really made.
"""

UPLOAD_READS, RESULT_READS = 2, 3
"""Of the upload: a HEAD and the GET. Of where its result lies: HEADs before and after the claim, and before writing."""
RESULT_PUTS, LEASE_PUTS, LEASE_DELETES = 1, 1, 1

READS_IF_DONE = 2
"""A HEAD of the upload and one of its result, if that is there already: then nothing else follows."""
