"""`audio-emotion model list` and `model pull`: which checkpoints there are, and fetching one. Without PyTorch."""

from pathlib import Path

from rich.console import Console

from core.checkpoints.hub import pull
from core.checkpoints.registry import CHECKPOINTS, DEFAULT_CHECKPOINT


def list_checkpoints() -> None:
    """Show what is known by name, in lines that can be copied."""
    console = Console(soft_wrap=True, highlight=False)
    for name, entry in CHECKPOINTS.items():
        console.print(f"[bold]{name}[/bold]{' (the default)' if name == DEFAULT_CHECKPOINT else ''}")
        console.print(f"    {entry.repo_id}, {entry.licence}")
        console.print(f"    trained on {entry.speech}; hears {', '.join(entry.architecture.labels)}")


def pull_checkpoint(name: str, out: Path, *, revision: str | None, endpoint: str | None, folder: Path | None) -> None:
    """Fetch a checkpoint and say what it is."""
    commit = pull(name, out, revision=revision, endpoint=endpoint, folder=folder)
    Console().print(f"{name} at {commit} is in {out}", soft_wrap=True, highlight=False)
