"""Going through many objects of a bucket: listing them, reading them in threads, choosing a few by chance."""

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
_AHEAD = 4 * _THREADS
"""So many are asked for at the same time at the most, however long the list is."""


@dataclass(frozen=True)
class S3Object:
    """One object, as a listing shows it."""

    key: str
    size_bytes: int
    modified_at: datetime


def listed(s3: "S3Client", bucket: str, prefix: str = "") -> Iterator[S3Object]:
    """Every object of a bucket below a prefix, in the order of their keys.

    Raises
    ------
    OperationFailed
        If S3 cannot or will not say.
    """
    with aws_errors(f"the bucket {bucket}", unknown="bucket does not exist"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                yield S3Object(found["Key"], found["Size"], found["LastModified"])


def in_threads(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """The function's answers, in the order of the items, which may be without end."""
    with ThreadPoolExecutor(_THREADS) as pool:
        under_way: list[Future[Answer]] = []
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= _AHEAD:
                yield under_way.pop(0).result()
        for future in under_way:
            yield future.result()


class ReservoirSample:
    """A few of many items, each as likely as every other, without knowing how many there will be."""

    def __init__(self, size: int, seed: int | None = None) -> None:
        self._size = size
        self._random = random.Random(seed)
        self.seen = 0
        self.items: list[str] = []

    def offer(self, item: str) -> None:
        """Take an item, or leave it."""
        self.seen += 1
        if len(self.items) < self._size:
            self.items.append(item)
            return
        place = self._random.randrange(self.seen)
        if place < self._size:
            self.items[place] = item
