"""Many objects of a bucket: list them, read them in threads, sample them."""

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from core.operations.deployed_stack import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_THREADS = 16
_MAX_PENDING = 4 * _THREADS
"""Bounds the memory for a list of any length."""


@dataclass(frozen=True)
class S3Object:
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_at: datetime


def list_objects(s3: "S3Client", bucket: str, prefix: str = "") -> Iterator[S3Object]:
    """Yield every object of a bucket below a prefix, in the order of the keys.

    Raises
    ------
    OperationFailed
        If S3 cannot be reached or refuses the request.
    """
    with aws_errors(f"the bucket {bucket}", unknown="bucket does not exist"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                yield S3Object(found["Key"], found["Size"], found["LastModified"])


def in_threads(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """Apply a function to a stream of items in several threads, and yield the answers in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        pending: list[Future[Answer]] = []
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= _MAX_PENDING:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()


class ReservoirSample:
    """A uniform sample of a stream of unknown length."""

    def __init__(self, size: int, seed: int | None = None) -> None:
        self._size = size
        self._random = random.Random(seed)
        self.seen = 0
        self.items: list[str] = []

    def offer(self, item: str) -> None:
        """Offer one item of the stream."""
        self.seen += 1
        if len(self.items) < self._size:
            self.items.append(item)
            return
        place = self._random.randrange(self.seen)
        if place < self._size:
            self.items[place] = item
