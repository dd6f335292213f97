"""The command line: `audio-emotion`, and how its errors are printed."""

import sys
from typing import Annotated

import typer

from core import __version__
from core.cli import local_commands, model_commands, stack_commands  # noqa: F401 (importing adds the commands)
from core.cli.options import app
from core.cli.streams import complain, discard_unwritten, prepare_streams, reason_of
from core.errors import AudioEmotionError

__all__ = ["app", "main"]

_EXTRAS = {"accelerate": "train", "peft": "train", "scipy": "train", "sklearn": "train", "pyarrow": "parquet"}
"""Package -> the extra that installs it; those of `model` are not listed."""
_INTERRUPTED = 130
"""The exit status after Ctrl-C, as in a shell."""


def _show_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"audio-emotion {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Declare the options before the command."""


def main() -> None:
    """Run the command line. An expected error is printed as one sentence on stderr, with exit status 1."""
    prepare_streams()
    streams = (sys.stdout, sys.stderr)  # typer replaces both if the output has no reader
    try:
        status = _run()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    discard_unwritten(streams)
    sys.exit(status)


def _run() -> int:
    """Run the command; return the exit status."""
    try:
        status = _status_of_command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        return 1
    except AudioEmotionError as error:
        complain(str(error))
        return 1
    except OSError as error:
        complain(reason_of(error))
        return 1
    except ImportError as error:
        extra = _EXTRAS.get(error.name or "", "model")
        complain(f"This command needs {error.name}. Run `pip install '.[{extra}]'` in the checkout.")
        return 1
    return status


def _status_of_command() -> int:
    try:
        app()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
