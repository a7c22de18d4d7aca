"""Where settings come from: a TOML file, the environment, the command line; the last one counts.

Options, keys and variables are those of the settings dataclasses, there is no second list:
`--mqtt-topic`, `topic` under `[mqtt]`, EDGE_EMOTION_MQTT_TOPIC.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

from edge_runtime.console import DEBUG_VARIABLE
from edge_runtime.errors import SettingError
from edge_runtime.settings import Option, Pairs, Secret, from_values, options, trouble

Chosen = TypeVar("Chosen")

PREFIX = "EDGE_EMOTION_"
"""Of variables of the environment."""
FILE_VARIABLE = f"{PREFIX}CONFIG"
NAME = "edge-emotion/config.toml"
SYSTEM_FILE = Path("/etc") / NAME
DEFAULT = "default"
GIVEN = 3  # the highest rank, that of the command line
_PASSWORD = re.compile(r'(?<=://)[^\s"]*:[^\s"]*(?=@)')  # with its user, in an address
_MOST_BYTES = 1 << 20  # of a settings file
_LONGEST = 200  # characters of a value in a message
# Of variables with this prefix, those that are no settings.
_OTHERS = {FILE_VARIABLE, DEBUG_VARIABLE}


@dataclass(frozen=True)
class Origin:
    """Where a value comes from."""

    rank: int
    """0 default, 1 file, 2 environment, 3 command line."""
    name: str
    """The file, the variable, or what there is of it."""


@dataclass(frozen=True)
class Effective(Generic[Chosen]):
    """Settings, and where each comes from."""

    settings: Chosen
    """What counts."""
    origins: dict[str, Origin]
    """By key, for those that do not have their default."""
    values: dict[str, Any]
    """The values of these."""

    def origin(self, key: str) -> Origin:
        """Where the value of `key` comes from."""
        return self.origins.get(key, Origin(0, DEFAULT))


def user_file() -> Path:
    """The user's settings file: $XDG_CONFIG_HOME or ~/.config, edge-emotion/config.toml."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / NAME


def settings_file(given: Path | None = None) -> Path | None:
    """The file that counts: `given`, $EDGE_EMOTION_CONFIG, the user's, the system's; None: none.

    ~ at its beginning is the user's folder, as in every path of the settings. An empty
    $EDGE_EMOTION_CONFIG stands for none. SettingError where one that was named is not there.
    """
    named = os.environ.get(FILE_VARIABLE)
    if given is not None or named:
        file = _at_home(given or Path(named or ""))
        if not file.is_file():
            raise SettingError(
                f"no settings file {file}; write one: edge-emotion config init --config "
                f"{shlex.quote(str(file))}"
            )
        return file
    if named == "":
        return None
    return next((file for file in (user_file(), SYSTEM_FILE) if file.is_file()), None)


def file_to_write(given: Path | None = None) -> Path:
    """Where settings are written, so that they count: `given`, $EDGE_EMOTION_CONFIG, the user's."""
    return given or Path(os.environ.get(FILE_VARIABLE) or user_file())


def effective(
    kind: type[Chosen],
    arguments: argparse.Namespace,
    file: Path | None,
    *,
    known: type[Any] | None = None,
    alone: bool = False,
) -> Effective[Chosen]:
    """Settings of `kind` from all places; ~ at the beginning of a path is the user's folder.

    Parameters
    ----------
    kind : the settings dataclass; of the file and the environment it takes what it has.
    arguments : parsed by `add_arguments(..., given_alone=True)`.
    file : the settings file, see `settings_file`; None for none.
    known : the settings whose keys may be in the file; by default `kind`.
    alone : whether the sections of file and environment do not count: parts of a program that
        listens, where a recording is read.

    Raises SettingError for a file that cannot be read, an unknown key (with the nearest), and a
    value that is not what it may be, each with where it stands; and for a ~ of nobody.
    """
    own = {option.key: option for option in options(kind)}
    whole = {option.key: option for option in options(known or kind)}
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    places = [read_file(file, whole)] if file else []
    places.append(read_environment(os.environ, whole))
    for rank, place in enumerate(places, GIVEN - len(places)):
        for key, (value, name) in place.items():
            if key in own and not (alone and "." in key):
                values[key], origins[key] = _meant(own[key], value), Origin(rank, name)
    given = vars(arguments)
    for key, option in own.items():
        if option.name in given:
            values[key] = _meant(option, given[option.name])
            origins[key] = Origin(GIVEN, option.flag)
    values = {key: _at_home(v) if isinstance(v, Path) else v for key, v in values.items()}
    return Effective(from_values(kind, values), origins, values)


def _at_home(path: Path) -> Path:
    """With ~ as what it stands for: no shell has seen a path in a file, or behind a `=`."""
    if "\0" in str(path):
        raise SettingError(f"{str(path)!r} is no path: it has a NUL in it")
    try:
        return path.expanduser()
    except RuntimeError:
        raise SettingError(f"{path}: there is no such user; name the folder itself") from None


Place = dict[str, tuple[Any, str]]
"""Values by key, each with where it stands."""


def read_file(file: Path, known: Mapping[str, Option]) -> Place:
    """What a TOML file says. Raises SettingError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise SettingError(f"{file} is no settings file: it is larger than a megabyte")
    try:
        tree = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not TOML's own alone: 5,000 digits are neither
        raise SettingError(f"{file}: no valid TOML: {error or 'nested too deep'}") from None
    place: Place = {}
    for key, value in _leaves(tree, known):
        option = known.get(key)
        if option is None:
            raise SettingError(f"{file}: {unknown(key, known)}")
        place[key] = (_checked(option, value, str(file)), str(file))
    return place


def _leaves(tree: Mapping[str, Any], known: Mapping[str, Option]) -> Iterator[tuple[str, Any]]:
    sections = {key.partition(".")[0] for key in known if "." in key}
    for name, value in tree.items():
        if name in sections and isinstance(value, dict):
            yield from ((f"{name}.{inner}", below) for inner, below in value.items())
        else:
            yield name, value


def read_environment(environment: Mapping[str, str], known: Mapping[str, Option]) -> Place:
    """What EDGE_EMOTION_* variables say. Raises SettingError."""
    by_variable = {variable(option): option for option in known.values()}
    place: Place = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in _OTHERS:
            continue
        option = by_variable.get(name)
        if option is None:
            near = get_close_matches(name, by_variable, 1)
            raise SettingError(
                f"the environment has {name}, which is no setting"
                + (f"; {near[0]}?" if near else "")
            )
        place[option.key] = (_checked(option, _of_text(option, text, name), name), name)
    return place


def variable(option: Option) -> str:
    """The environment variable of an option."""
    return PREFIX + option.name.upper()


def unknown(key: str, known: Mapping[str, Option]) -> str:
    """One line on a key that there is not, with the nearest that there is."""
    near = get_close_matches(key, known, 1)
    if not near:  # in another section, or in none
        last = {name.rpartition(".")[2]: name for name in known}
        near = [last[name] for name in get_close_matches(key.rpartition(".")[2], last, 1)]
    return f"there is no setting {_cut(key)}" + (f"; {near[0]!r}?" if near else "")


def _of_text(option: Option, text: str, name: str) -> Any:
    """A variable's text as the value that a file would have."""
    kind = option.kind
    if kind in (str, Path, Secret):
        return text
    if kind is bool and text.lower() in ("0", "1", "no", "yes"):
        return text.lower() in ("1", "yes")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        raise SettingError(f"{name}: {option.key} {_wanted(kind)}, not {_cut(text)}") from None


def _checked(option: Option, value: Any, where: str) -> Any:
    kind = option.kind
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < sys.float_info.max else math.inf
    if kind in (Path, Secret) and isinstance(value, str):
        value = kind(value)
    if kind == Pairs and isinstance(value, list):
        value = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in value)
    wanted = trouble(value, kind, option.metadata)
    if not wanted and kind not in (int, float, Pairs) and not isinstance(value, kind):
        wanted = _wanted(kind)
    if wanted:
        raise SettingError(f"{where}: {option.key} {wanted}, not {_cut(value)}")
    return value


def _meant(option: Option, value: Any) -> Any:
    """The value; None for an empty text where none is needed: a template shows it like that.

    Not so a file or a secret: where the name of a key is empty, it must not seem that none is
    asked for.
    """
    return None if value == "" and option.kind is str and option.default is None else value


def _cut(value: Any) -> str:
    """A value as Python writes it, as far as a line has room for it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _wanted(kind: type[Any]) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    if kind == Pairs:
        return 'must be pairs of words: [["angry:0.8", "command"]]'
    return f"must be {words.get(kind, 'text')}"


def described(found: Effective[Any]) -> list[str]:
    """A line a setting, as TOML, with where it comes from; a secret is not shown."""
    lines: list[str] = []
    section = ""
    for option in _sections_last(type(found.settings)):
        before = option.key.rpartition(".")[0]
        if before != section:
            lines += ["", f"[{before}]"]
            section = before
        value = found.values.get(option.key, option.default)
        text = f"{option.key.rpartition('.')[2]} = {_PASSWORD.sub('***', _toml(value))}"
        text = f"# {text.partition('=')[0]}= is not set" if value is None else text
        lines.append(f"{text:<44} # {found.origin(option.key).name}")
    return lines


def template(kind: type[Any], chosen: Mapping[str, Any] | None = None) -> str:
    """A commented settings file; what is not `chosen`, by key, stands there with its default."""
    chosen = chosen or {}
    lines = [
        "# Settings of edge-emotion. What is commented out has its default.",
        f"# The environment ({PREFIX}...) and options of the command line count before them.",
        "# A file with a password in it is for its owner alone: chmod 600.",
    ]
    section = ""
    for option in _sections_last(kind):
        before, _, name = option.key.rpartition(".")
        if before != section:
            lines += ["", f"[{before}]"]
            section = before
        notes = f" ({option.notes})" if option.notes else ""
        choices = option.metadata.get("choices")
        among = f" One of {', '.join(choices)}." if choices else ""
        lines += ["", f"# {option.help}{among}{notes}"]
        if option.key in chosen:
            value = chosen[option.key]
            plain = str(value) if isinstance(value, Secret) else value
            lines.append(f"{name} = {_toml(plain)}")
        else:
            lines.append(f"# {name} = {_toml(_example(option))}")
    return "\n".join(lines) + "\n"


def _sections_last(kind: type[Any]) -> list[Option]:
    """As TOML asks: what is in no section comes before them."""
    return sorted(options(kind), key=lambda option: "." in option.key)


def _example(option: Option) -> Any:
    """The default, or something of the kind that a value has."""
    if option.default is not None and option.default != ():
        return option.default
    if option.metadata.get("choices"):
        return option.metadata["choices"][0]
    least = option.metadata.get("limits")
    number = (least.minimum if least and least.minimum is not None else 1) or 1
    examples: dict[Any, Any] = {int: int(number), float: float(number), bool: False}
    examples[Pairs] = (("angry:0.8", "command"),)
    return examples.get(option.kind, "")


def _toml(value: Any) -> str:
    """A value as TOML writes it (https://toml.io/en/v1.0.0)."""
    if isinstance(value, Secret):
        return '"***"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if value is None:
        return '""'
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    text = "".join(
        escapes.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in str(value)
    )
    return f'"{text}"'
