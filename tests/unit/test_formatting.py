"""Times and text from outside, as they are shown."""

import pytest

from core.formatting import clock, first_line, printable


@pytest.mark.parametrize(
    ("seconds", "digits", "shown"),
    [
        (0.0, 0, "0:00"),
        (59.96, 1, "1:00.0"),  # rounds up to the next minute
        (59.94, 1, "0:59.9"),
        (3599.6, 0, "1:00:00"),
        (3723.25, 2, "1:02:03.25"),
    ],
)
def test_a_time_is_shown_rounded(seconds: float, digits: int, shown: str) -> None:
    assert clock(seconds, digits=digits) == shown


def test_control_characters_are_replaced() -> None:
    assert printable("\x1b[2Ja\u202eb é") == "\ufffd[2Ja\ufffdb é"


@pytest.mark.parametrize(
    ("message", "expected"), [("one\ntwo", "one"), ("", "ValueError"), (" \n", "ValueError"), ("\n one", "one")]
)
def test_the_first_line_of_an_error_is_its_type_without_a_message(message: str, expected: str) -> None:
    assert first_line(ValueError(message)) == expected
