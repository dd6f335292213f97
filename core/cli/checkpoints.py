"""`audio-emotion model list` and `model pull`: known checkpoints and their download. Needs no PyTorch."""

import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from core.checkpoints.architecture import Overrides
from core.checkpoints.files import CONFIG_FILE, is_checkpoint, read_json
from core.checkpoints.hub import pull
from core.checkpoints.licence import is_non_commercial
from core.checkpoints.registry import CHECKPOINTS, DEFAULT_CHECKPOINT, PublishedCheckpoint, overrides_for

_MAX_WIDTH = 100
_INDENT = "    "


def list_checkpoints(*, as_json: bool) -> None:
    """Print the known checkpoints, as text for a terminal or as a JSON array."""
    if as_json:
        entries = [
            {"name": name, "is_default": name == DEFAULT_CHECKPOINT, **_public(entry)}
            for name, entry in CHECKPOINTS.items()
        ]
        sys.stdout.write(json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    width = min(console.width, _MAX_WIDTH)
    for name, entry in CHECKPOINTS.items():
        console.print(f"[bold]{name}[/bold]{' (default)' if name == DEFAULT_CHECKPOINT else ''}", soft_wrap=True)
        for line in _lines(entry):
            # Names of repositories and corpora contain hyphens, at which a line must not break.
            text = textwrap.fill(
                line, width, initial_indent=_INDENT, subsequent_indent=_INDENT * 2, break_on_hyphens=False
            )
            console.print(text, soft_wrap=True, markup=False)


def _lines(entry: PublishedCheckpoint) -> Iterator[str]:
    yield entry.repo_id
    restriction = ", no commercial use" if is_non_commercial(entry.licence) else ""
    yield f"{', '.join(entry.languages)}; {entry.size_mb} MB; licence {entry.licence or 'not stated'}{restriction}"
    yield f"{'dimensions' if entry.has_dimensions else 'labels'}: {', '.join(entry.labels)}"
    yield f"trained on {entry.speech}"
    yield f"published accuracy: {entry.accuracy or 'not known'}"


def _public(entry: PublishedCheckpoint) -> dict[str, object]:
    values = {name: value for name, value in asdict(entry).items() if name not in ("overrides", "labels")}
    return values | {"dimensions" if entry.has_dimensions else "labels": entry.labels}


def pull_checkpoint(
    name: str | None,
    out: Path,
    *,
    revision: str | None,
    endpoint: str | None,
    folder: Path | None,
    is_normalised: bool | None,
    is_licence_accepted: bool,
) -> None:
    """Download a checkpoint, and print its licence and its commit."""
    name = name or _default_name(folder)
    console = Console(soft_wrap=True, highlight=False, markup=False)

    def print_licence(licence: str | None, link: str | None) -> None:
        restriction = ", which forbids commercial use" if is_non_commercial(licence) else ""
        console.print(
            f"Licence of the weights: {licence}{f' ({link})' if link else ''}{restriction}."
            if licence
            else "The licence of the weights is not stated: ask their author before you use them."
        )

    commit = pull(
        name,
        out,
        revision=revision,
        endpoint=endpoint,
        folder=folder,
        overrides=Overrides(is_normalised=is_normalised),
        is_licence_accepted=is_licence_accepted,
        report_licence=print_licence,
    )
    console.print(f"Saved {name} ({commit}) to {out}")


def _default_name(folder: Path | None) -> str:
    """Return the default checkpoint's name, unless a folder contains another network, to which it must not apply."""
    if folder is None or not is_checkpoint(folder):
        return DEFAULT_CHECKPOINT
    config = folder / CONFIG_FILE
    is_default = config.exists() and overrides_for(None, read_json(config)) != Overrides()
    return DEFAULT_CHECKPOINT if is_default else folder.resolve().name
