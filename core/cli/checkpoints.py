"""`audio-emotion model list` and `model pull`: known checkpoints and their download. Needs no PyTorch."""

from pathlib import Path

from rich.console import Console

from core.checkpoints.hub import pull
from core.checkpoints.registry import CHECKPOINTS, DEFAULT_CHECKPOINT


def list_checkpoints() -> None:
    """Print the known checkpoints, without line breaks in names."""
    console = Console(soft_wrap=True, highlight=False)
    for name, entry in CHECKPOINTS.items():
        console.print(f"[bold]{name}[/bold]{' (default)' if name == DEFAULT_CHECKPOINT else ''}")
        console.print(f"    {entry.repo_id}, {entry.licence}")
        console.print(f"    trained on {entry.speech}; emotions: {', '.join(entry.labels)}")


def pull_checkpoint(name: str, out: Path, *, revision: str | None, endpoint: str | None, folder: Path | None) -> None:
    """Download a checkpoint and print its commit."""
    commit = pull(name, out, revision=revision, endpoint=endpoint, folder=folder)
    Console().print(f"Saved {name} ({commit}) to {out}", soft_wrap=True, highlight=False)
