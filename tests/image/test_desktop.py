"""The container for other machines than Linux: the README's commands build it, classify a folder and serve the page."""

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import httpx2
import pytest

from tools.container import docker
from tools.emulator import ROOT, free_port


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """The README's commands; the first one is run, and builds the image."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^docker .*$", readme, re.MULTILINE)
    try:
        docker("info")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("There is no Docker engine.")
    subprocess.run(found[0], shell=True, cwd=ROOT, check=True, timeout=900)
    return found[1:]


def test_a_folder_is_classified_into_a_file_of_the_user(commands: list[str], tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    shutil.copy(ROOT / "samples" / "anger.wav", tmp_path / "calls")

    subprocess.run(commands[0], shell=True, cwd=tmp_path, check=True, timeout=200)

    document = json.loads((tmp_path / "calls.jsonl").read_text())
    assert (document["source"]["key"], document["emotion"]) == ("calls/anger.wav", "anger")
    assert (tmp_path / "calls.jsonl").stat().st_uid == os.getuid()


@pytest.mark.timeout(200)
def test_the_page_is_served_on_the_loopback_address_only(commands: list[str]) -> None:
    name, port = f"audio-emotion-{uuid.uuid4().hex[:8]}", free_port()
    command = commands[1].replace("docker run", f"docker run --detach --name {name}").replace("8010:", f"{port}:")
    try:
        subprocess.run(command, shell=True, check=True)
        give_up_at_s = time.monotonic() + 100
        while True:
            try:
                page = httpx2.get(f"http://127.0.0.1:{port}/")
                break
            except httpx2.TransportError:
                assert time.monotonic() < give_up_at_s
                time.sleep(0.5)
        assert page.text.startswith("<!doctype html>")
        assert docker("port", name) == f"8010/tcp -> 127.0.0.1:{port}"
    finally:
        docker("rm", "--force", name)
