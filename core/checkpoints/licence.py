"""The licence that a repository on the Hugging Face Hub states, and whether it forbids commercial use."""

import re
from collections.abc import Mapping
from typing import Any

_NON_COMMERCIAL = re.compile(r"(?<![a-z])(nc|non-?commercial|research)(?![a-z])|amlr")
"""In the Hub's names of licences: cc-by-nc-4.0, fair-noncommercial-research-license, intel-research, apple-amlr."""


def stated_licence(card: Mapping[str, Any] | None, tags: list[str] | None) -> str | None:
    """Return the licence in a model card's metadata or in the repository's tags; None if there is none.

    Parameters
    ----------
    card
        The metadata at the head of README.md. `license` is a name or a list of names. For the name "other",
        `license_name` has the name.
    tags
        The repository's tags. The Hub adds `license:NAME` for a licence in the card.
    """
    stated = (card or {}).get("license")
    names = [str(name) for name in (stated if isinstance(stated, list) else [stated]) if name]
    names = names or [tag.removeprefix("license:") for tag in tags or () if tag.startswith("license:")]
    own_name = (card or {}).get("license_name")
    if own_name and names in ([], ["other"]):
        return str(own_name)
    return " and ".join(names) if names and names != ["unknown"] else None


def licence_link(card: Mapping[str, Any] | None) -> str | None:
    """Return the link to a licence of the author's own in a model card's metadata; None if there is none."""
    link = (card or {}).get("license_link")
    return str(link) if link else None


def is_non_commercial(licence: str | None) -> bool:
    """Return whether a licence's name says that it forbids commercial use."""
    return bool(licence and _NON_COMMERCIAL.search(licence.lower().replace(" ", "-")))
