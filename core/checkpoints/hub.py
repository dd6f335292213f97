"""Fetches a checkpoint from the Hugging Face Hub or from a folder, and records its source.

Needs huggingface_hub, but neither PyTorch nor transformers.
"""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from core.checkpoints.architecture import Overrides
from core.checkpoints.files import (
    HUGGING_FACE,
    LAYOUTS,
    PREPROCESSOR_FILE,
    SHARD_INDEX_FILE,
    SOURCE_FILE,
    file_names,
    find_layout,
    find_weights,
    read_source,
    record_source,
    shard_names,
)
from core.checkpoints.licence import is_non_commercial, licence_link, stated_licence
from core.checkpoints.registry import CHECKPOINTS, known_checkpoint
from core.errors import CheckpointUnreachable, CheckpointUnreadable, FolderRefused, LicenceNotAccepted
from core.formatting import first_line

_HUB_CACHE = ".cache/huggingface"


def pull(
    name: str,
    destination: Path,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    folder: Path | None = None,
    overrides: Overrides | None = None,
    is_licence_accepted: bool = False,
    report_licence: Callable[[str | None, str | None], None] | None = None,
) -> str:
    """Fetch a checkpoint into a folder, and record its commit.

    Parameters
    ----------
    name
        A key of `CHECKPOINTS`, or any `owner/name` on the Hub.
    destination
        The folder to write to. Complete files of the same commit are not fetched again.
    revision
        A branch, a tag, a commit or a pull request such as refs/pr/2. None for the registry's revision, or the main
        branch.
    endpoint
        The URL of another server with the Hub's protocol.
    folder
        A folder to copy from instead of the Hub.
    overrides
        What the files leave open or get wrong. They are recorded with the source.
    is_licence_accepted
        Whether the user accepted a licence that forbids commercial use.
    report_licence
        Called with the licence and the link to its text, each None if not stated, before any file is fetched from the
        Hub. For a folder, it is called afterwards, if the registry has the checkpoint.

    Returns
    -------
    The commit, or "local" for a folder without a record of its source.

    Raises
    ------
    CheckpointUnreachable
        If the server does not respond, or does not have the checkpoint or the revision.
    CheckpointUnreadable
        If the folder or the repository lacks a file that a checkpoint needs.
    LicenceNotAccepted
        If the licence forbids commercial use and was not accepted. Nothing was fetched then.
    FolderRefused
        If `destination` contains a checkpoint that this function did not fetch.
    """
    if folder is not None:
        name = str(read_source(folder).get("id") or name)
    entry = known_checkpoint(name)
    repo_id = entry.repo_id if entry else name
    chosen = overrides or Overrides()
    needs_extractor = (entry.overrides.updated(chosen) if entry else chosen).is_normalised is None
    if folder is not None:
        commit = _pull_from_folder(repo_id, folder, destination, chosen, needs_extractor=needs_extractor)
        if entry and report_licence:
            report_licence(entry.licence, None)
        return commit
    if "/" not in repo_id:
        known = ", ".join(CHECKPOINTS)
        raise CheckpointUnreachable(f"{name!r} is not a known checkpoint ({known}) or the owner/name of another one.")

    def check_licence(stated: str | None, link: str | None) -> None:
        licence = stated or (entry.licence if entry else None)
        if report_licence:
            report_licence(licence, link)
        if not is_licence_accepted and (is_non_commercial(licence) or (entry and is_non_commercial(entry.licence))):
            raise LicenceNotAccepted(
                f"The licence of {repo_id}, {licence}, forbids commercial use: read it, and accept it with "
                "--accept-licence. Nothing was downloaded."
            )

    revision = revision or (entry.revision if entry else None)
    commit = _pull_from_hub(
        repo_id, destination, revision, endpoint, check_licence=check_licence, needs_extractor=needs_extractor
    )
    return record_source(destination, repo_id, commit, chosen.recorded())


def _pull_from_folder(
    repo_id: str, folder: Path, destination: Path, chosen: Overrides, *, needs_extractor: bool
) -> str:
    present = file_names(folder)
    names = _files_to_fetch(str(folder), present, needs_extractor=needs_extractor)
    if SHARD_INDEX_FILE in names:
        names += shard_names(folder / SHARD_INDEX_FILE)
    if folder.resolve() == destination.resolve():
        raise CheckpointUnreadable(f"{folder} cannot be copied into itself.")
    if absent := next((name for name in names if name not in present), None):
        raise CheckpointUnreadable(f"{folder} has no {absent}.")
    source = read_source(folder)
    _remove_checkpoint(destination)
    for name in names:
        shutil.copyfile(folder / name, destination / name)
    overrides = {**(source.get("overrides") or {}), **chosen.recorded()}
    return record_source(destination, repo_id, str(source.get("revision") or "local"), overrides)


def _pull_from_hub(
    repo_id: str,
    destination: Path,
    revision: str | None,
    endpoint: str | None,
    *,
    check_licence: Callable[[str | None, str | None], None],
    needs_extractor: bool,
) -> str:
    """Download the files, and return their commit."""
    # Imported here, because copying from a folder needs no HTTP client.
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint)
    try:
        info = api.model_info(repo_id, revision=revision)
        commit = str(info.sha)
        card = vars(info.card_data) if info.card_data else None
        check_licence(stated_licence(card, info.tags), licence_link(card))
        present = {sibling.rfilename for sibling in info.siblings or ()}
        place = f"{repo_id} at {commit}"
        names = _files_to_fetch(place, present, needs_extractor=needs_extractor)
        if not _is_copy(destination, repo_id, commit):
            _remove_checkpoint(destination)
        for name in names:
            # By commit: a push between two downloads must not mix two revisions.
            api.hf_hub_download(repo_id, name, revision=commit, local_dir=destination)
        for name in shard_names(destination / SHARD_INDEX_FILE) if SHARD_INDEX_FILE in names else ():
            api.hf_hub_download(repo_id, name, revision=commit, local_dir=destination)
    except HfHubHTTPError as error:
        raise CheckpointUnreachable(f"{api.endpoint} refused {repo_id} ({first_line(error)}).") from error
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise CheckpointUnreachable(
            f"{repo_id} could not be fetched from {api.endpoint}: {first_line(error).rstrip('.')}. "
            "--endpoint chooses another server, --from a folder."
        ) from error
    return commit


def _files_to_fetch(place: str, present: Collection[str], *, needs_extractor: bool) -> list[str]:
    """Return the names of the files that a checkpoint needs, and of the optional ones that are present."""
    layout = find_layout(place, present)
    optional = [name for name in layout.optional if name in present]
    if layout is HUGGING_FACE and needs_extractor and not optional:
        raise CheckpointUnreadable(
            f"{place} has no {PREPROCESSOR_FILE}, which states whether clips are normalised: say so with --normalise "
            "clip or --normalise none, as the model card or the base model does."
        )
    for name in layout.required:
        if name not in present:
            raise CheckpointUnreadable(f"{place} has no {name}.")
    return [layout.config, *layout.required, *optional, find_weights(place, layout, present)]


def _is_copy(destination: Path, repo_id: str, commit: str) -> bool:
    source = read_source(destination)
    return (source.get("id"), source.get("revision")) == (repo_id, commit)


def _remove_checkpoint(destination: Path) -> None:
    """Create the folder, or remove another checkpoint's files, so that its weights are not mistaken for the new ones.

    Raises
    ------
    FolderRefused
        If `pull` did not fetch the files, because they may be the only copy.
    """
    destination.mkdir(parents=True, exist_ok=True)
    names = {name for layout in LAYOUTS for name in layout.names}
    files = sorted(destination / name for name in names & file_names(destination))
    # An interrupted download leaves no record of its source, but huggingface_hub's cache.
    if files and not any((destination / name).exists() for name in (SOURCE_FILE, _HUB_CACHE)):
        raise FolderRefused(f"{files[0]} exists, and `model pull` did not write it. Choose another folder with --out.")
    for file in (*files, *destination.glob("model-*-of-*.safetensors"), destination / SOURCE_FILE):
        file.unlink(missing_ok=True)
