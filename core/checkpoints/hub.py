"""Fetches a checkpoint from the Hugging Face Hub or from a folder, and records its source.

Needs huggingface_hub, but neither PyTorch nor transformers.
"""

import shutil
from pathlib import Path

from core.checkpoints.files import (
    CONFIG_FILES,
    SOURCE_FILE,
    WEIGHT_FILES,
    read_source,
    record_source,
    weights_file,
)
from core.checkpoints.registry import CHECKPOINTS
from core.errors import CheckpointUnreachable, CheckpointUnreadable, FolderRefused
from core.formatting import first_line

_HUB_CACHE = ".cache/huggingface"


def pull(
    name: str,
    destination: Path,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    folder: Path | None = None,
) -> str:
    """Fetch a checkpoint into a folder, and record its commit.

    Parameters
    ----------
    name
        A key of `CHECKPOINTS`, or any `owner/name` on the Hub.
    destination
        The folder to write to. Complete files of the same commit are not fetched again.
    revision
        A branch, a tag or a commit; None for the main branch.
    endpoint
        The URL of another server with the Hub's protocol.
    folder
        A folder to copy from instead of the Hub.

    Returns
    -------
    The commit, or "local" for a folder without a record of its source.

    Raises
    ------
    CheckpointUnreachable
        If the server does not respond, or does not have the checkpoint or the revision.
    CheckpointUnreadable
        If the folder or the repository lacks a file that a checkpoint needs.
    FolderRefused
        If `destination` contains a checkpoint that this function did not fetch.
    """
    repo_id = CHECKPOINTS[name].repo_id if name in CHECKPOINTS else name
    if folder is not None:
        return _pull_from_folder(repo_id, folder, destination)
    if "/" not in repo_id:
        known = ", ".join(CHECKPOINTS)
        raise CheckpointUnreachable(f"{name!r} is not a known checkpoint ({known}) or the owner/name of another one.")
    return _pull_from_hub(repo_id, destination, revision, endpoint)


def _pull_from_folder(repo_id: str, folder: Path, destination: Path) -> str:
    files = [*(folder / name for name in CONFIG_FILES), weights_file(folder)]
    for file in files:
        if not file.exists():
            raise CheckpointUnreadable(f"{folder} has no {file.name}.")
    if folder.resolve() == destination.resolve():
        raise CheckpointUnreadable(f"{folder} cannot be copied into itself.")
    _remove_checkpoint(destination)
    for file in files:
        shutil.copyfile(file, destination / file.name)
    source = read_source(folder)
    return record_source(
        destination,
        str(source.get("id") or repo_id),
        str(source.get("revision") or "local"),
        source.get("overrides"),
    )


def _pull_from_hub(repo_id: str, destination: Path, revision: str | None, endpoint: str | None) -> str:
    # Imported here, because copying from a folder needs no HTTP client.
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint)
    try:
        info = api.model_info(repo_id, revision=revision)
        commit = str(info.sha)
        files = {sibling.rfilename for sibling in info.siblings or ()}
        weights = [name for name in WEIGHT_FILES if name in files][:1]
        absent = [name for name in CONFIG_FILES if name not in files] or ([] if weights else ["weights"])
        if absent:
            raise CheckpointUnreadable(f"{repo_id} at {commit} has no {absent[0]}.")
        if read_source(destination) != {"id": repo_id, "revision": commit}:
            _remove_checkpoint(destination)
        for name in (*CONFIG_FILES, *weights):
            # By commit: a push between two downloads must not mix two revisions.
            api.hf_hub_download(repo_id, name, revision=commit, local_dir=destination)
    except HfHubHTTPError as error:
        raise CheckpointUnreachable(f"{api.endpoint} refused {repo_id} ({first_line(error)}).") from error
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise CheckpointUnreachable(
            f"{repo_id} could not be fetched from {api.endpoint}: {first_line(error).rstrip('.')}. "
            "--endpoint chooses another server, --from a folder."
        ) from error
    return record_source(destination, repo_id, commit)


def _remove_checkpoint(destination: Path) -> None:
    """Create the folder, or remove another checkpoint's files, so that its weights are not mistaken for the new ones.

    Raises
    ------
    FolderRefused
        If `pull` did not fetch the files, because they may be the only copy.
    """
    destination.mkdir(parents=True, exist_ok=True)
    files = [destination / name for name in (*CONFIG_FILES, *WEIGHT_FILES) if (destination / name).exists()]
    # An interrupted download leaves no record of its source, but huggingface_hub's cache.
    if files and not any((destination / name).exists() for name in (SOURCE_FILE, _HUB_CACHE)):
        raise FolderRefused(f"{files[0]} exists, and `model pull` did not write it. Choose another folder with --out.")
    for file in (*files, destination / SOURCE_FILE):
        file.unlink(missing_ok=True)
