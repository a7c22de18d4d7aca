"""An enrolled voice: a small versioned file, tied to the bundle that it was made with.

It holds the mean of some hundreds of statistics of ten seconds of a voice; no audio, no words, and
none can be made of it. Voices can be told apart by it, so it is kept as one keeps a fingerprint:
readable by its owner alone. Deleting the file forgets the voice.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from edge_runtime.errors import ProfileError
from edge_runtime.pcm import Float32
from edge_runtime.system import data_folder, write_private
from edge_runtime.untrusted import parse_json, read_regular, shown

VERSION = 1
MOST_BYTES = 20_000  # of a file
_SUFFIX = ".json"
_NAME = re.compile(r"\w[\w.-]{0,63}")
_LONGEST_TEXT = 128
_KIND = "edge-emotion speaker profile"
_LARGEST = 1e4  # standard deviations, and utterances: beyond, nobody was heard


@dataclass(frozen=True, eq=False)
class Profile:
    """What is kept of a voice."""

    bundle: str
    """Identity of the bundle whose statistics they are."""
    made: str
    """When, ISO 8601."""
    seconds: float
    """Seconds of speech that were heard."""
    weight: float
    """Utterances that were heard."""
    mean: Float32
    """Mean of their standardized statistics, (width,)."""

    def check_bundle(self, identity: str, width: int) -> None:
        """Raise ProfileError where it was made with a bundle of another identity or width."""
        if self.bundle != identity or self.mean.size != width:
            raise ProfileError(
                f"the profile was made with another bundle ({self.bundle[:12]}..., not "
                f"{identity[:12]}...): statistics of one mean nothing to the other; enroll again"
            )

    def save(self, path: Path) -> None:
        """Write it for its owner alone, whole or not at all."""
        content = {
            "kind": _KIND,
            "version": VERSION,
            "bundle": self.bundle,
            "made": self.made,
            "seconds": round(self.seconds, 2),
            "weight": round(self.weight, 4),
            "mean": base64.b64encode(self.mean.astype("<f2").tobytes()).decode("ascii"),
        }
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps(content, indent=1) + "\n")


def load_profile(path: Path) -> Profile:
    """Read a profile. Raises ProfileError, in one line, for anything that is none."""
    where = f"profile {path}"
    try:
        content = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise ProfileError(f"{where} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ProfileError(f"{where} cannot be read: {error}") from None
    try:
        raw = parse_json(content)
    except ValueError:
        raise ProfileError(f"{where} is not JSON; enroll again") from None
    if not isinstance(raw, dict) or raw.get("kind") != _KIND:
        raise ProfileError(f"{where} is no {_KIND}")
    if raw.get("version") != VERSION:
        raise ProfileError(
            f"{where} has version {shown(raw.get('version'))}, this program reads {VERSION}; "
            "upgrade edge-emotion or enroll again"
        )
    try:
        steps = base64.b64decode(raw["mean"], validate=True)
        profile = Profile(
            _line(raw["bundle"]),
            _line(raw["made"]),
            float(raw["seconds"]),
            float(raw["weight"]),
            np.frombuffer(steps, "<f2").astype(np.float32),
        )
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise ProfileError(f"{where} is damaged ({error}); enroll again") from None
    values = (profile.seconds, profile.weight, float(np.abs(profile.mean).max(initial=0)))
    if not all(isfinite(value) and 0 <= value < _LARGEST for value in values):
        raise ProfileError(f"{where} is damaged: its numbers cannot be meant; enroll again")
    if min(values) == 0:
        raise ProfileError(f"{where} holds no voice: it was made of silence; enroll again")
    return profile


def _line(text: object) -> str:
    """A text of a profile, which is shown on terminals. ValueError for one that should not be."""
    if not isinstance(text, str) or not text.isprintable() or len(text) > _LONGEST_TEXT:
        raise ValueError(f"{shown(text)} is no plain text of one line")
    return text


def profiles_folder() -> Path:
    """Where profiles are: $XDG_DATA_HOME/edge-emotion/speakers, else under ~/.local/share."""
    return data_folder("speakers")


def profile_path(name: str) -> Path:
    """The file of the profile of that name. ProfileError for what is no name."""
    if not _NAME.fullmatch(name):
        raise ProfileError(
            f"{name!r} is no name for a speaker: up to 64 letters, digits, dots and dashes"
        )
    return profiles_folder() / f"{name}{_SUFFIX}"


def profile_named(name: str) -> Profile:
    """The enrolled profile of that name. ProfileError where there is none."""
    path = profile_path(name)
    if not path.exists():
        known = ", ".join(profile_names()) or "nobody yet"
        raise ProfileError(
            f"nobody is enrolled as {name!r} (enrolled: {known}); edge-emotion enroll {name}"
        )
    return load_profile(path)


def profile_names() -> list[str]:
    """Who is enrolled, sorted."""
    return sorted(
        path.name.removesuffix(_SUFFIX)
        for path in profiles_folder().glob(f"*{_SUFFIX}")
        if not path.name.startswith(".")
    )


def delete_profile(name: str) -> None:
    """Forget the voice of that name. ProfileError where nobody is enrolled so."""
    try:
        profile_path(name).unlink()
    except FileNotFoundError:
        raise ProfileError(f"nobody is enrolled as {name!r}") from None
