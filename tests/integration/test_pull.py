"""Fetching a checkpoint from a server with the Hub's protocol, and from a folder."""

import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.files import record_source
from core.checkpoints.hub import pull
from core.checkpoints.registry import CHECKPOINTS
from core.errors import CheckpointUnreachable, CheckpointUnreadable, FolderRefused
from tests.support.hub_server import Hub, serving
from tests.support.networks import random_network, small_config, write_checkpoint

REPO = CHECKPOINTS["hubert-base-ch"].repo_id
FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture(autouse=True)
def _refuse_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any connection to another host fail, and with it the test."""
    look_up = socket.getaddrinfo

    def only_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in ("127.0.0.1", "localhost"), f"connection to {host}"
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", only_here)


@pytest.fixture(scope="module")
def revisions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two commits of one repository with different weights."""
    folder = tmp_path_factory.mktemp("repository")
    return {
        commit: write_checkpoint(random_network(small_config(), seed), small_config(), folder / commit)
        for seed, commit in enumerate([FIRST, SECOND])
    }


@pytest.fixture
def hub(revisions: dict[str, Path]) -> Iterator[Hub]:
    with serving(Hub(revisions, {"main": SECOND, "v1": FIRST}, REPO)) as running:
        yield running


def origin(folder: Path) -> dict[str, str]:
    document: dict[str, str] = json.loads((folder / "source.json").read_text())
    return document


def weights(folder: Path) -> bytes:
    return (folder / "pytorch_model.bin").read_bytes()


def test_the_newest_commit_is_fetched_and_recorded(hub: Hub, revisions: dict[str, Path], tmp_path: Path) -> None:
    commit = pull("hubert-base-ch", tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert commit == SECOND
    assert origin(tmp_path / "checkpoint") == {"id": REPO, "revision": SECOND}
    assert weights(tmp_path / "checkpoint") == weights(revisions[SECOND])
    read = read_checkpoint(tmp_path / "checkpoint")
    assert (read.model_id, read.revision) == (REPO, SECOND)


def test_the_second_checkpoint_is_fetched_by_its_name(small_wav2vec2_checkpoint: Path, tmp_path: Path) -> None:
    repo = CHECKPOINTS["wav2vec2-xlsr-en"].repo_id
    with serving(Hub({FIRST: small_wav2vec2_checkpoint}, {"main": FIRST}, repo)) as hub:
        assert pull("wav2vec2-xlsr-en", tmp_path / "checkpoint", endpoint=hub.endpoint) == FIRST

    assert origin(tmp_path / "checkpoint") == {"id": repo, "revision": FIRST}
    read = read_checkpoint(tmp_path / "checkpoint")
    assert (read.model_id, len(read.labels)) == (repo, 8)


@pytest.mark.parametrize("revision", ["v1", FIRST])
def test_a_revision_is_fetched_by_its_commit(
    revision: str, hub: Hub, revisions: dict[str, Path], tmp_path: Path
) -> None:
    assert pull(REPO, tmp_path, revision=revision, endpoint=hub.endpoint) == FIRST

    assert weights(tmp_path) == weights(revisions[FIRST])
    downloads = [request for request in hub.asked if "/resolve/" in request]
    # By commit: a push between two downloads must not mix two revisions.
    assert downloads
    assert all(f"/resolve/{FIRST}/" in request for request in downloads)


def test_only_the_files_of_a_checkpoint_are_fetched(hub: Hub, revisions: dict[str, Path], tmp_path: Path) -> None:
    surplus = tmp_path / "repository"
    write_checkpoint(random_network(small_config()), small_config(), surplus)
    (surplus / "training_args.bin").write_bytes(b"code, perhaps")
    hub.folders = {SECOND: surplus}

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert not any("training_args" in request for request in hub.asked)


def test_safetensors_are_fetched_instead_of_a_pickle(hub: Hub, tmp_path: Path) -> None:
    both = write_checkpoint(random_network(small_config()), small_config(), tmp_path / "repository")
    write_checkpoint(random_network(small_config()), small_config(), both, "safetensors")
    hub.folders = {SECOND: both}

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert not any("pytorch_model.bin" in request for request in hub.asked)
    assert read_checkpoint(tmp_path / "checkpoint").model_id == REPO


def test_a_second_pull_downloads_no_file_again(hub: Hub, tmp_path: Path) -> None:
    pull(REPO, tmp_path, endpoint=hub.endpoint)
    hub.asked.clear()

    pull(REPO, tmp_path, endpoint=hub.endpoint)

    assert not [request for request in hub.asked if request.startswith("GET") and "/resolve/" in request]


def test_an_interrupted_download_resumes(hub: Hub, tmp_path: Path) -> None:
    large = write_checkpoint(random_network(small_config()), small_config(), tmp_path / "repository")
    # huggingface_hub keeps whole chunks of 10 MB.
    (large / "pytorch_model.bin").write_bytes(random.Random(0).randbytes(12_000_000))
    hub.folders = {SECOND: large}
    hub.cut_after_bytes = 11_000_000

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert weights(tmp_path / "checkpoint") == weights(large)
    downloads = [request for request in hub.asked if request.startswith("GET") and "pytorch_model" in request]
    assert [request.partition("bytes=")[2] for request in downloads] == ["", "10485760-"]


def test_another_revision_replaces_the_first(hub: Hub, revisions: dict[str, Path], tmp_path: Path) -> None:
    pull(REPO, tmp_path, revision="v1", endpoint=hub.endpoint)

    pull(REPO, tmp_path, endpoint=hub.endpoint)

    assert origin(tmp_path)["revision"] == SECOND
    assert weights(tmp_path) == weights(revisions[SECOND])


def test_old_weights_are_not_recorded_as_a_new_commit(hub: Hub, revisions: dict[str, Path], tmp_path: Path) -> None:
    """huggingface_hub returns an existing file if the server does not have it."""
    pull(REPO, tmp_path, revision="v1", endpoint=hub.endpoint)
    hub.refuse, hub.refusal = re.compile(r"HEAD .*pytorch_model"), 403

    with pytest.raises(CheckpointUnreachable, match=REPO):
        pull(REPO, tmp_path, endpoint=hub.endpoint)
    assert not (tmp_path / "source.json").exists()
    assert not (tmp_path / "pytorch_model.bin").exists()


def test_weights_of_an_earlier_pull_do_not_hide_the_new_ones(
    hub: Hub, revisions: dict[str, Path], tmp_path: Path
) -> None:
    write_checkpoint(random_network(small_config(), seed=9), small_config(), tmp_path, "safetensors")
    record_source(tmp_path, REPO, FIRST)

    pull(REPO, tmp_path, endpoint=hub.endpoint)

    expected = read_checkpoint(revisions[SECOND]).weights_sha256
    assert read_checkpoint(tmp_path).weights_sha256 == expected


@pytest.mark.parametrize("from_folder", [False, True])
def test_a_checkpoint_that_was_not_pulled_is_kept(
    from_folder: bool, hub: Hub, revisions: dict[str, Path], tmp_path: Path
) -> None:
    own = write_checkpoint(random_network(small_config(), seed=9), small_config(), tmp_path / "own", "safetensors")
    before = {file.name: file.read_bytes() for file in own.iterdir()}

    with pytest.raises(FolderRefused, match=r"own/config\.json exists"):
        pull(REPO, own, endpoint=hub.endpoint, folder=revisions[FIRST] if from_folder else None)

    assert {file.name: file.read_bytes() for file in own.iterdir()} == before


def test_a_pull_continues_one_that_was_interrupted(hub: Hub, revisions: dict[str, Path], tmp_path: Path) -> None:
    hub.refuse = re.compile(r"GET .*pytorch_model")
    with pytest.raises(CheckpointUnreachable):
        pull(REPO, tmp_path, endpoint=hub.endpoint)
    assert (tmp_path / "config.json").exists()
    hub.refuse = None

    pull(REPO, tmp_path, endpoint=hub.endpoint)

    assert weights(tmp_path) == weights(revisions[SECOND])


def test_an_unknown_repository_is_reported_in_one_sentence(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreachable, match="someone/nothing") as error:
        pull("someone/nothing", tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert "\n" not in str(error.value)
    assert not (tmp_path / "checkpoint" / "source.json").exists()


def test_an_unknown_name_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreachable, match=r"'nothing' is not a known checkpoint \(hubert-base-ch, wav2vec2-"):
        pull("nothing", tmp_path / "checkpoint")


def test_an_unreachable_server_is_named_with_the_alternatives(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreachable, match=r"from http://127\.0\.0\.1:9: .*\. --endpoint .* --from a folder"):
        pull(REPO, tmp_path, endpoint="http://127.0.0.1:9")


def test_an_unknown_revision_is_reported_in_one_sentence(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreachable, match=REPO) as error:
        pull(REPO, tmp_path, revision="v9", endpoint=hub.endpoint)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a/b/c", "../etc", "a b"])
def test_an_invalid_name_is_reported_in_one_sentence(name: str, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreachable) as error:
        pull(name, tmp_path, endpoint=hub.endpoint)

    assert "\n" not in str(error.value)


def test_a_failing_server_is_reported_in_one_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.refuse = re.compile("/api/")

    with pytest.raises(CheckpointUnreachable, match="503") as error:
        pull(REPO, tmp_path, endpoint=hub.endpoint)

    assert "\n" not in str(error.value)


def test_an_unreachable_server_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(CheckpointUnreachable, match=REPO) as error:
            pull(REPO, tmp_path, endpoint=endpoint)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [("config.json", "config.json"), ("preprocessor_config.json", "preproc"), ("pytorch_model.bin", "weights")],
)
def test_a_file_missing_from_the_repository_is_named(name: str, named: str, hub: Hub, tmp_path: Path) -> None:
    lacking = write_checkpoint(random_network(small_config()), small_config(), tmp_path / "repository")
    (lacking / name).unlink()
    hub.folders = {SECOND: lacking}

    with pytest.raises(CheckpointUnreadable, match=rf"{REPO} at {SECOND} has no {named}"):
        pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)


def test_a_folder_is_copied_and_recorded_as_local(revisions: dict[str, Path], tmp_path: Path) -> None:
    assert pull("hubert-base-ch", tmp_path, folder=revisions[FIRST]) == "local"

    assert origin(tmp_path) == {"id": REPO, "revision": "local"}
    assert weights(tmp_path) == weights(revisions[FIRST])


def test_a_folder_with_a_recorded_source_keeps_it(hub: Hub, tmp_path: Path) -> None:
    pull(REPO, tmp_path / "first", revision="v1", endpoint=hub.endpoint)

    assert pull("another/name", tmp_path / "second", folder=tmp_path / "first") == FIRST
    assert origin(tmp_path / "second") == {"id": REPO, "revision": FIRST}


def test_weights_of_an_earlier_copy_do_not_hide_the_new_ones(revisions: dict[str, Path], tmp_path: Path) -> None:
    write_checkpoint(random_network(small_config(), seed=9), small_config(), tmp_path, "safetensors")
    record_source(tmp_path, REPO, SECOND)

    pull(REPO, tmp_path, folder=revisions[FIRST])

    assert read_checkpoint(tmp_path).weights_sha256 == read_checkpoint(revisions[FIRST]).weights_sha256


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "pytorch_model.bin"])
def test_a_file_missing_from_the_folder_is_named(name: str, tmp_path: Path) -> None:
    lacking = write_checkpoint(random_network(small_config()), small_config(), tmp_path / "folder")
    (lacking / name).unlink()

    with pytest.raises(CheckpointUnreadable, match=name.replace(".", r"\.")):
        pull(REPO, tmp_path / "checkpoint", folder=lacking)


def test_a_folder_is_not_copied_into_itself(tmp_path: Path) -> None:
    folder = write_checkpoint(random_network(small_config()), small_config(), tmp_path)

    with pytest.raises(CheckpointUnreadable, match="itself"):
        pull(REPO, folder, folder=folder)
