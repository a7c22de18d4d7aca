"""What a manifest of clips may say: its columns, and what is a label."""

from __future__ import annotations

from collections.abc import Iterable

from edge_runtime.errors import EdgeError

COLUMNS = ("path", "label", "speaker", "session", "text", "split", "start", "end")
"""Of a manifest, in order; what each holds is said in docs/events-and-bundle.md."""
UNKNOWN = ("nan", "none", "null", "n/a", "unknown", "?")
"""What stands for no speaker, and is no label either."""
MOST_LABELS = 20
KEYS = "1234567890ABCDEFGHIJ"
"""The key of each label, in order."""
_LONGEST = 64


def labels_in(text: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """The labels of `angry,neutral`, behind those that are `known`, each once.

    Raises EdgeError for none, too many, one that no manifest can hold, and two that differ in case
    only: one of them would be a slip, and become a class.
    """
    spelled: dict[str, str] = {}
    for label in [*known, *(word.strip() for word in text.split(",") if word.strip())]:
        if label.casefold() in UNKNOWN or not label.isprintable() or len(label) > _LONGEST:
            raise EdgeError(
                f"{label!r} is no label: up to {_LONGEST} characters, none of {', '.join(UNKNOWN)}"
            )
        other = spelled.setdefault(label.casefold(), label)
        if other != label:
            raise EdgeError(f"labels {other!r} and {label!r} differ only in case; write them alike")
    if not spelled:
        raise EdgeError("name the classes: --label angry,neutral")
    if len(spelled) > MOST_LABELS:
        raise EdgeError(f"{len(spelled)} labels; there may be {MOST_LABELS} at most")
    return tuple(spelled.values())


def speaker_in(name: str) -> str:
    """A speaker's name for a manifest, "" where nobody is named. Raises EdgeError."""
    name = name.strip()
    if name.casefold() in UNKNOWN or not name.isprintable() or len(name) > _LONGEST:
        raise EdgeError(f"{name!r} is no name of a speaker; leave it out where it is not known")
    return name
