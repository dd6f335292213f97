"""The guarantee that holds whenever the queue is empty."""

import hashlib
import json
from typing import Any
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError

from core.delivery.keys import result_key_for
from core.delivery.report_pages import page_key_for
from core.operations.forget import Scope, find_recordings
from core.report import render
from core.results import Result
from tests.support.faults.world import PREFIX, RESULTS, STACK, Identity, Message, World
from tests.support.quick_pipeline import is_right


def check(world: World, *, is_final: bool = False) -> None:
    """Check that each existing key has the right result of its newest version.

    A key may have a `given_up` result instead if its message is in the dead-letter queue.
    """
    if world.is_checked and not is_final:
        return
    world.is_checked = True
    world.tally.quiet += 1
    for key, newest in world.newest.items():
        document = _result(world, key)
        if document is not None and not _is_given_up(document):
            source = document["source"]
            named = (key, source.get("version_id") or source["etag"])
            assert is_right(document, world.contents[named]), f"{key} has the result of another recording"
            world.tally.right_failures += document["status"] == "failed"
        if newest is None:
            _check_absence(world, key, is_given_up=document is not None and _is_given_up(document))
            continue
        has_result = document is not None and _is_about(world, document, newest)
        if key.endswith("/") and not world.contents[newest]:
            assert not has_result, f"{key} is a folder marker and has a result"
            world.tally.folder_markers += 1
        elif document is None or not has_result or _is_given_up(document):
            _check_dead_letter(world, newest, has_result=has_result)
            assert not is_final, f"{key} has no correct result at the end"
        elif is_final and world.setup.reports:
            _check_page(world, key, document)


def _check_absence(world: World, key: str, *, is_given_up: bool) -> None:
    """Check that nothing is stored about a deleted recording, unless a dead letter or a failed backfill explains it.

    A last delivery that cannot reach the upload stores a `given_up` result, because the upload may exist.
    """
    recordings = find_recordings(world.s3, STACK, Scope(frozenset([key])))
    derived = [version for recording in recordings for version in recording.of_kind("result", "report")]
    if key in world.forgotten:
        came_back = [version for version in derived if version.size_bytes and not (version.is_latest and is_given_up)]
        assert not came_back, f"{key} was forgotten and came back"
    if not world.setup.deletes or key in world.failed_backfills or any(letter.key == key for letter in world.dead):
        return
    left = [version for version in derived if version.is_latest and version.size_bytes is not None]
    assert not left, f"{key} was deleted and {left} is left"


def _is_given_up(document: dict[str, Any]) -> bool:
    return document["status"] == "failed" and bool(document["error"]["code"] == "given_up")


def _check_dead_letter(world: World, newest: Identity, *, has_result: bool) -> None:
    letters = [message for message in world.dead if _concerns(world, message, newest)]
    assert letters, f"{newest} has neither a correct result nor a dead letter"
    if not has_result:
        # Another upload with the same content has the same ETag, and its own result has been replaced since.
        own = [message for message in letters if world.upload_of(message) == newest] or letters
        assert all(message.excused for message in own), f"{newest} has a dead letter without a result"
        world.tally.excused += 1


def _check_page(world: World, key: str, document: dict[str, Any]) -> None:
    page = world.s3.get_object(Bucket=RESULTS, Key=page_key_for(result_key_for(key, PREFIX)))["Body"].read()
    assert page.decode() == render(Result.model_validate(document)), f"the report of {key} is outdated"


def _concerns(world: World, message: Message, newest: Identity) -> bool:
    about = message.body["Records"][0]["s3"]["object"]
    key = unquote_plus(about["key"])
    if "versionId" in about:
        return bool((key, about["versionId"]) == newest)
    return bool(key == newest[0] and about.get("eTag") == _etag(world.contents[newest]))


def _is_about(world: World, document: dict[str, Any], newest: Identity) -> bool:
    source = document["source"]
    if source.get("version_id"):
        return bool((source["key"], source["version_id"]) == newest)
    return bool(source["key"] == newest[0] and source["etag"] == _etag(world.contents[newest]))


def _result(world: World, key: str) -> dict[str, Any] | None:
    try:
        answer = world.s3.get_object(Bucket=RESULTS, Key=result_key_for(key, PREFIX))
    except ClientError:
        return None
    document: dict[str, Any] = json.loads(answer["Body"].read())
    return document


def _etag(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
