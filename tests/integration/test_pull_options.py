"""Fetching a checkpoint with a licence, a revision, missing values or several files of weights."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.checkpoints.architecture import InputMode, Overrides
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.hub import pull
from core.checkpoints.registry import CHECKPOINTS
from core.cli.app import main
from core.errors import CheckpointUnreadable, LicenceNotAccepted
from tests.support.hub_server import Hub, serving
from tests.support.networks import random_network, small_config, small_wav2vec2_config, write_checkpoint

REPO = "someone/else"
COMMIT, PULL_REQUEST = "1" * 40, "2" * 40


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    config = small_wav2vec2_config()
    return write_checkpoint(random_network(config), config, tmp_path / "repository", "safetensors")


@pytest.fixture
def hub(repository: Path) -> Iterator[Hub]:
    with serving(Hub({COMMIT: repository}, {"main": COMMIT}, REPO)) as running:
        yield running


def downloads(hub: Hub) -> list[str]:
    return [request for request in hub.asked if "/resolve/" in request]


@pytest.mark.parametrize(
    ("card", "tags", "licence"),
    [
        ({"license": "mit"}, ["license:mit"], "mit"),
        ({"license": ["mit", "cc-by-4.0"]}, [], "mit and cc-by-4.0"),
        ({"license": "other", "license_name": "model-license"}, ["license:other"], "model-license"),
        ({"license": "other", "license_name": "own", "license_link": "https://example.org/research"}, [], "own"),
        ({"language": "en"}, ["license:apache-2.0"], "apache-2.0"),
        (None, ["license:bsd"], "bsd"),
        ({"license": "unknown"}, [], None),
        ({}, ["audio"], None),
        (None, [], None),
    ],
)
def test_the_licence_of_any_repository_is_reported_before_the_download(
    card: dict[str, object] | None, tags: list[str], licence: str | None, hub: Hub, tmp_path: Path
) -> None:
    hub.card, hub.tags = card, tags
    reported: list[tuple[str | None, str | None, int]] = []

    pull(
        REPO,
        tmp_path / "checkpoint",
        endpoint=hub.endpoint,
        report_licence=lambda found, link: reported.append((found, link, len(downloads(hub)))),
    )

    assert reported == [(licence, (card or {}).get("license_link"), 0)]


@pytest.mark.parametrize(
    "card",
    [
        {"license": "cc-by-nc-sa-4.0"},
        {"license": "CC BY-NC 4.0"},
        {"license": ["mit", "cc-by-nc-4.0"]},
        {"license": "other", "license_name": "rail-noncommercial"},
        {"license": "other", "license_name": "Non-Commercial RAIL"},
        {"license": "fair-noncommercial-research-license"},
        {"license": "apple-amlr"},
    ],
)
def test_a_licence_without_commercial_use_must_be_accepted(card: dict[str, object], hub: Hub, tmp_path: Path) -> None:
    hub.card = card

    with pytest.raises(LicenceNotAccepted, match=r"someone/else.*forbids commercial use.*--accept-licence"):
        pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)
    assert not downloads(hub)
    assert not (tmp_path / "checkpoint").exists()

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint, is_licence_accepted=True)
    assert read_checkpoint(tmp_path / "checkpoint").model_id == REPO


@pytest.mark.parametrize("licence", ["apache-2.0", "openrail", "cc-by-sa-4.0", "bsl-1.0", "license-once"])
def test_other_licences_need_no_acceptance(licence: str, hub: Hub, tmp_path: Path) -> None:
    hub.card = {"license": licence}

    assert pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint) == COMMIT


def test_the_registry_s_licence_must_be_accepted_if_the_repository_states_none(hub: Hub, tmp_path: Path) -> None:
    hub.repo = CHECKPOINTS["wav2vec2-msp-dim"].repo_id

    for name in ("wav2vec2-msp-dim", hub.repo):
        with pytest.raises(LicenceNotAccepted, match=r"CC-BY-NC-SA-4\.0"):
            pull(name, tmp_path / "checkpoint", endpoint=hub.endpoint)
    assert not downloads(hub)


def test_the_command_prints_the_licence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*options: str) -> tuple[int, str]:
        command = ["model", "pull", REPO, "--out", str(tmp_path / "checkpoint"), "--endpoint", hub.endpoint, *options]
        monkeypatch.setattr("sys.argv", ["audio-emotion", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    assert run() == (
        0,
        "The licence of the weights is not stated: ask their author before you use them.\n"
        f"Saved {REPO} ({COMMIT}) to {tmp_path / 'checkpoint'}\n",
    )
    hub.card = {"license": "cc-by-nc-4.0"}
    status, printed = run()
    assert (status, printed.count("cc-by-nc-4.0, which forbids commercial use")) == (1, 1)
    status, printed = run("--accept-licence")
    assert (status, printed.splitlines()[0]) == (
        0,
        "Licence of the weights: cc-by-nc-4.0, which forbids commercial use.",
    )


def test_a_folder_with_another_network_is_not_taken_for_the_default_checkpoint(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["model", "pull", "--from", str(repository), "--out", str(tmp_path / "copy")]
    monkeypatch.setattr("sys.argv", ["audio-emotion", *command])
    with pytest.raises(SystemExit) as ended:
        main()

    assert not ended.value.code
    read = read_checkpoint(tmp_path / "copy")
    assert read.model_id == "repository"
    assert read.network.architecture.input_mode is InputMode.CLIP


def test_the_weights_of_a_pull_request_are_fetched(hub: Hub, repository: Path, tmp_path: Path) -> None:
    main_branch = tmp_path / "main"
    write_checkpoint(random_network(small_wav2vec2_config(), seed=1), small_wav2vec2_config(), main_branch)
    hub.folders = {COMMIT: main_branch, PULL_REQUEST: repository}
    hub.branches = {"main": COMMIT, "refs/pr/2": PULL_REQUEST}

    commit = pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint, revision="refs/pr/2")

    assert commit == PULL_REQUEST
    assert (tmp_path / "checkpoint/model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()


def test_the_registry_s_revision_is_fetched_unless_another_is_requested(
    hub: Hub, repository: Path, tmp_path: Path
) -> None:
    entry = CHECKPOINTS["wav2vec2-base-superb-er"]
    assert entry.revision
    hub.repo, hub.folders = entry.repo_id, {entry.revision: repository, COMMIT: repository}

    assert pull("wav2vec2-base-superb-er", tmp_path / "a", endpoint=hub.endpoint) == entry.revision
    assert pull("wav2vec2-base-superb-er", tmp_path / "b", endpoint=hub.endpoint, revision="main") == COMMIT


@pytest.mark.parametrize("is_normalised", [True, False])
def test_the_normalisation_replaces_a_missing_preprocessor_file(
    is_normalised: bool, hub: Hub, repository: Path, tmp_path: Path
) -> None:
    (repository / "preprocessor_config.json").unlink()

    with pytest.raises(CheckpointUnreadable, match=r"no preprocessor_config\.json.*--normalise clip or --normalise no"):
        pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)
    assert not downloads(hub)

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint, overrides=Overrides(is_normalised=is_normalised))
    assert read_checkpoint(tmp_path / "checkpoint").network.architecture.is_normalised is is_normalised
    pull(REPO, tmp_path / "copy", folder=tmp_path / "checkpoint", overrides=Overrides(is_normalised=is_normalised))
    assert read_checkpoint(tmp_path / "copy").network.architecture.is_normalised is is_normalised


def test_the_registry_knows_the_normalisation_that_a_repository_lacks(
    hub: Hub, repository: Path, tmp_path: Path
) -> None:
    (repository / "preprocessor_config.json").unlink()
    hub.repo = CHECKPOINTS["hubert-dusha-ru"].repo_id

    pull("hubert-dusha-ru", tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert not (tmp_path / "checkpoint/preprocessor_config.json").exists()


def test_a_processor_s_file_replaces_the_preprocessor_s(hub: Hub, repository: Path, tmp_path: Path) -> None:
    extractor = json.loads((repository / "preprocessor_config.json").read_text())
    (repository / "processor_config.json").write_text(json.dumps({"feature_extractor": extractor}))
    (repository / "preprocessor_config.json").unlink()

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert read_checkpoint(tmp_path / "checkpoint").network.architecture.is_normalised


def shard(folder: Path, parts: int = 3) -> dict[str, str]:
    """Split the weights of a checkpoint into several files, and return its index."""
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    names = sorted(tensors)
    places = {name: f"model-{place % parts + 1:05}-of-{parts:05}.safetensors" for place, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "pytorch_model.bin").unlink()
    return places


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = write_checkpoint(random_network(small_config()), small_config(), tmp_path / "sharded")
    shard(folder)
    return folder


def test_sharded_weights_are_fetched_copied_and_read(hub: Hub, sharded: Path, tmp_path: Path) -> None:
    whole = write_checkpoint(random_network(small_config()), small_config(), tmp_path / "whole")
    hub.folders = {COMMIT: sharded}

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)
    pull(REPO, tmp_path / "copy", folder=tmp_path / "checkpoint")

    expected = read_checkpoint(whole).network.state_dict()
    hashes = set()
    for folder in ("checkpoint", "copy"):
        read = read_checkpoint(tmp_path / folder)
        hashes.add(read.weights_sha256)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in read.network.state_dict().items())
    assert len(hashes) == 1


def test_the_hash_of_sharded_weights_depends_on_every_file(sharded: Path, tmp_path: Path) -> None:
    before = read_checkpoint(sharded).weights_sha256
    file = sharded / "model-00002-of-00003.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file)

    assert read_checkpoint(sharded).weights_sha256 != before


def test_another_checkpoint_replaces_sharded_weights(hub: Hub, sharded: Path, repository: Path, tmp_path: Path) -> None:
    hub.folders = {COMMIT: sharded}
    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)
    hub.folders, hub.branches = {PULL_REQUEST: repository}, {"main": PULL_REQUEST}

    pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)

    assert not [file.name for file in (tmp_path / "checkpoint").iterdir() if re.search("model-|index", file.name)]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/model-00001-of-00001.safetensors", "model.bin", 7])
def test_an_index_cannot_name_files_elsewhere(name: object, hub: Hub, sharded: Path, tmp_path: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"tensor": name}}))
    hub.folders = {COMMIT: sharded}

    with pytest.raises(CheckpointUnreadable, match="weight_map"):
        pull(REPO, tmp_path / "checkpoint", endpoint=hub.endpoint)
    with pytest.raises(CheckpointUnreadable, match="weight_map"):
        read_checkpoint(sharded)


def test_a_tensor_in_another_file_than_the_index_lists_is_named(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    name = next(name for name, file in places.items() if file.startswith("model-00001"))
    index.write_text(json.dumps({"weight_map": {**places, name: "model-00002-of-00003.safetensors"}}))

    with pytest.raises(CheckpointUnreadable, match=rf"model-00001.*unexpected: {re.escape(name)}"):
        read_checkpoint(sharded)


def test_a_missing_shard_is_named(sharded: Path, tmp_path: Path) -> None:
    (sharded / "model-00003-of-00003.safetensors").unlink()

    with pytest.raises(CheckpointUnreadable, match="model-00003-of-00003"):
        read_checkpoint(sharded)
    with pytest.raises(CheckpointUnreadable, match="model-00003-of-00003"):
        pull(REPO, tmp_path / "copy", folder=sharded)
