"""Which of a corpus's own labels train as which class: a map that ships, or a file of one's own.

A map is TOML. `[all]` names classes by the plain names of `labels.toml`, for every corpus; a corpus
with a section of its own is mapped by that alone, by its own labels:

    [all]
    angry = "angry"
    boredom = "calm"

    [emospeech]
    calm = "calm"

What is not named is left out and counted. `[manifest]` maps the labels of manifests; without it
they are classes as they stand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import TrainingError

if TYPE_CHECKING:
    from training.corpora import Found

DEFAULT = "four"
ALL, MANIFEST = "all", "manifest"
_HERE = Path(__file__).parent
_UNSURE = "unsure"  # what a device says below its threshold, and so no class
Labels = dict[str, str]
"""A corpus's own labels, and what each is or trains as."""


@dataclass(frozen=True)
class ClassMap:
    """A map that has been read and checked."""

    name: str
    """Of one that ships; else the path that was given."""
    sections: Mapping[str, Labels]
    """Own labels to classes, by corpus; plain names to classes under `ALL`."""

    def of(self, corpus: str) -> Labels:
        """Own labels of `corpus` to classes; of a manifest those of its section, else none."""
        if corpus in self.sections or corpus == MANIFEST:
            return dict(self.sections.get(corpus, {}))
        by_name = self.sections.get(ALL, {})
        known = own_labels().get(corpus, {})
        return {own: by_name[name] for own, name in known.items() if name in by_name}

    def classes(self) -> set[str]:
        """Every class that it has."""
        return {label for section in self.sections.values() for label in section.values()}


@cache
def own_labels() -> dict[str, Labels]:
    """Every label of each corpus, and its plain name, as `labels.toml` has them."""
    found: dict[str, Labels] = tomllib.loads((_HERE / "labels.toml").read_text(encoding="utf-8"))
    return found


def shipped() -> list[str]:
    """Names of the maps that ship."""
    return sorted(path.stem for path in (_HERE / "classes").glob("*.toml"))


def open_classes(given: str = "", training: Mapping[str, Any] | None = None) -> ClassMap:
    """The map that `given` names, one that ships or a file.

    Where nothing is given: the one that a run recorded, of whose record `training` is; else the
    default. Raises TrainingError, in one line, for a file that is none.
    """
    recorded = (training or {}).get("classes")
    if not given and isinstance(recorded, dict):
        if recorded["map"] in shipped():
            return open_classes(recorded["map"])
        return ClassMap(recorded["map"], {k: v for k, v in recorded["labels"].items() if v})
    name = given or DEFAULT
    ships = name in shipped()
    path = _HERE / "classes" / f"{name}.toml" if ships else Path(name).expanduser()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TrainingError(
            f"--classes {name}: {error.strerror}; expected a TOML file or one of "
            f"{', '.join(shipped())}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"--classes {name} is no TOML: {error}") from None
    return ClassMap(name, _checked(raw, f"--classes {name}"))


def record_of(found: Mapping[str, Found]) -> dict[str, Any]:
    """What a run keeps of the map that its corpora were read with, for `open_classes`.

    Its name, and of each corpus, by NAME or NAME@LABEL, own labels to classes; a manifest has none
    unless the map has a section for it.
    """
    return {
        "map": next((part.class_map for part in found.values()), DEFAULT),
        "labels": {name.partition("@")[0]: part.labels for name, part in found.items()},
    }


def _checked(raw: Mapping[str, Any], what: str) -> dict[str, Labels]:
    """The sections of a map; TrainingError, which begins with `what`, for what cannot be meant."""
    corpora = own_labels()
    plain = {name: name for labels in corpora.values() for name in labels.values()}
    spelled: dict[str, str] = {}
    for section, labels in raw.items():
        if section not in (*corpora, ALL, MANIFEST) or not isinstance(labels, dict):
            raise TrainingError(
                f"{what}: [{section}] is no corpus; expected {ALL}, {MANIFEST} or one of "
                f"{', '.join(corpora)}"
            )
        known = plain if section == ALL else corpora.get(section)
        for own, label in labels.items():
            if known is not None and own not in known:
                whose = "no corpus has" if section == ALL else f"[{section}] has no"
                raise TrainingError(
                    f"{what}: {whose} label {own!r}; expected {', '.join(_told(known))}"
                )
            if not isinstance(label, str) or not label.strip() or not label.isprintable():
                raise TrainingError(
                    f"{what}: [{section}] {own} = {label!r} is no class; expected a word, such as "
                    '"calm", or leave the line out'
                )
            if label != label.strip() or label.casefold() == _UNSURE:
                raise TrainingError(
                    f"{what}: [{section}] {own} = {label!r}: a class has no spaces around it and "
                    f"is not called {_UNSURE}, which is what a device says where it does not know"
                )
            other = spelled.setdefault(label.casefold(), label)
            if other != label:
                raise TrainingError(
                    f"{what}: classes {other!r} and {label!r} differ only in case; write them alike"
                )
    if not spelled:
        raise TrainingError(f"{what} maps no label; expected sections such as [{ALL}]")
    return {section: dict(labels) for section, labels in raw.items()}


def _told(known: Labels) -> list[str]:
    """Labels, with the plain name of those that do not say it themselves."""
    return [own if own == name else f"{own} ({name})" for own, name in known.items()]
