"""The HTML report beside each result document.

A report is always rendered from the stored document, and its metadata has the document's ETag. Every delivery, even a
duplicate, can therefore detect an outdated report and replace it.
"""

from core.delivery.s3_errors import WriteConflict
from core.delivery.storage import Storage
from core.errors import StorageUnavailable
from core.results import Result

_DOCUMENT_ETAG = "document-etag"
_MAX_WRITE_ATTEMPTS = 5


def page_key_for(result_key: str) -> str:
    """Return the key of a result's report: `.html` in place of `.json`."""
    return result_key.removesuffix(".json") + ".html"


def refresh_report(storage: Storage, bucket: str, result_key: str) -> None:
    """Write the report of a result, unless the stored report is up to date.

    Raises
    ------
    StorageUnavailable, StorageRefused
        If S3 fails or denies access.
    """
    # Imported here, because most deployments store no reports.
    from core.report import render

    key = page_key_for(result_key)
    for _ in range(_MAX_WRITE_ATTEMPTS):
        # HEAD the report before reading the document: the delivery that writes a later document refreshes the report.
        page = storage.head(bucket, key)
        stored = storage.get(bucket, result_key)
        if stored is None:
            raise StorageUnavailable(f"{result_key} does not exist, so its report cannot be rendered.")
        document, content = stored
        if page and page.metadata.get(_DOCUMENT_ETAG) == document.etag:
            return
        try:
            storage.put(
                bucket,
                key,
                render(Result.model_validate_json(content)).encode(),
                content_type="text/html; charset=utf-8",
                metadata={_DOCUMENT_ETAG: document.etag},
                replaces=page.etag if page else None,
            )
        except WriteConflict:
            continue
        return
    raise StorageUnavailable(f"{key} changed during {_MAX_WRITE_ATTEMPTS} attempts to write it.")
