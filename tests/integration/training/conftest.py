"""A manifest of the samples, and a count of the states that a training computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.audio.waveform import Waveform
from core.training import states
from tests.support.training import FILES, LABELS, SAMPLES


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest of the samples with two labels and three speakers, who have both."""
    rows = [f"{SAMPLES / name},{LABELS[number % 2]},speaker {number // 2 % 3}\n" for number, name in enumerate(FILES)]
    file = tmp_path / "manifest.csv"
    file.write_text("path,emotion,speaker\n" + "".join(rows), encoding="utf-8")
    return file


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Waveform]:
    """A list that grows with each utterance whose states are computed."""
    found: list[Waveform] = []
    original = states._each

    def counting(description: str, compute: Callable[[Waveform], Any], *others: Any) -> Any:
        def counted(waveform: Waveform) -> Any:
            found.append(waveform)
            return compute(waveform)

        return original(description, counted, *others)

    monkeypatch.setattr(states, "_each", counting)
    return found
