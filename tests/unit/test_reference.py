"""The generated reference pages are those that the code of today makes."""

import pytest

from tools import reference

PAGES = reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_make_reference_writes(name: str) -> None:
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == PAGES[name]


def test_there_is_no_page_that_nothing_generates() -> None:
    assert {file.name for file in reference.FOLDER.iterdir()} == set(PAGES)


@pytest.mark.parametrize(
    ("page", "named"),
    [
        ("settings.md", "`MAX_DURATION_S`"),
        ("template-parameters.md", "`DeadLettersAlarm`"),
        ("cli.md", "audio-emotion model export"),
        ("result.md", "`finished_at`"),
    ],
)
def test_a_page_names_what_it_is_about(page: str, named: str) -> None:
    assert named in PAGES[page]
