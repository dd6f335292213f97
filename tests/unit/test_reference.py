"""The reference pages are up to date with the code."""

import pytest

from core.cli.app import app
from tools import reference

PAGES = reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_make_reference_writes(name: str) -> None:
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == PAGES[name]


def test_every_reference_page_is_generated() -> None:
    assert {file.name for file in reference.FOLDER.iterdir()} == set(PAGES)


@pytest.mark.parametrize(
    ("page", "entry"),
    [
        ("settings.md", "`MAX_DURATION_S`"),
        ("template-parameters.md", "`DeadLettersAlarm`"),
        ("cli.md", "audio-emotion model export"),
        ("result.md", "`finished_at`"),
    ],
)
def test_a_page_has_entries(page: str, entry: str) -> None:
    assert entry in PAGES[page]


def test_every_command_has_a_help_text() -> None:
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {"backfill", "redrive", "status", "results"} <= commands
    assert all(command.callback.__doc__ for command in app.registered_commands if command.callback)
