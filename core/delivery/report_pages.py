"""The page beside each result document, where people asked for pages.

A page is always made from the document that lies there, whoever wrote that, and says in its metadata which one it was.
So whoever comes by, be it for a duplicate, can tell whether the page is behind, and bring it up to date.
"""

from core.delivery.storage import Storage, WriteConflict
from core.errors import StorageUnavailable
from core.results import Result

_MADE_FROM = "document-etag"
_MAX_WRITE_ATTEMPTS = 5


def page_key_for(result_key: str) -> str:
    """Where the page of a result lies: beside it, as `.html`, which is no longer than `.json`."""
    return result_key.removesuffix(".json") + ".html"


def refresh_report(storage: Storage, bucket: str, result_key: str) -> None:
    """Make the page of a result, unless it is there and of the document as it is now.

    Raises
    ------
    StorageUnavailable, StorageRefused
        If S3 cannot or will not.
    """
    # Here, not above: only those who ask for pages should wait for what draws them.
    from core.report import render

    key = page_key_for(result_key)
    for _ in range(_MAX_WRITE_ATTEMPTS):
        # In this order: a document that is written after we have read it is followed by a page, which then finds ours.
        page = storage.head(bucket, key)
        found = storage.get(bucket, result_key)
        if found is None:
            raise StorageUnavailable(f"{result_key} is not there, of which there is to be a page.")
        document, content = found
        if page and page.metadata.get(_MADE_FROM) == document.etag:
            return
        try:
            storage.put(
                bucket,
                key,
                render(Result.model_validate_json(content)).encode(),
                content_type="text/html; charset=utf-8",
                metadata={_MADE_FROM: document.etag},
                replaces=page.etag if page else None,
            )
        except WriteConflict:
            continue
        return
    raise StorageUnavailable(f"{key} was written by others {_MAX_WRITE_ATTEMPTS} times in a row.")
