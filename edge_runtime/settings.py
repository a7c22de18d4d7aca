"""Settings as dataclasses, the bounds of their values, and the command line they imply.

    @dataclass(frozen=True)
    class RunSettings(Settings):
        threads: int = setting(1, "Threads of the interpreter.", minimum=1, maximum=64)

A field becomes `--field-name`; a bool becomes `--x / --no-x`; a field that holds settings itself
becomes a group of options, named as the field. A `section` is such a group whose options bear its
name, `--mqtt-topic`, and whose `main` field is that name alone, `--mqtt`. A `Secret` has no option:
whoever lists the processes would read it. What is out of bounds is refused with one line that names
the setting, what was expected and what was found, wherever it comes from: an argument, a file, the
environment (`edge_runtime.config`), or Python.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from edge_runtime.errors import SettingError

Chosen = TypeVar("Chosen")
Value = TypeVar("Value")


class Secret(str):
    """Text that is shown nowhere: not in `repr`, no command line, no list of settings."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def secret_in(file: Path, name: str) -> Secret:
    """The first line of a file that the setting of that `name` names.

    Raises SettingError where it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            lines = stream.read(_MOST_SECRET_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise SettingError(f"{name} {file}: {why}") from None
    return Secret(lines[0] if lines else "")


Pairs = tuple[tuple[str, str], ...]
"""Two words, as often as they are given: `--on angry:0.8 COMMAND --on sad COMMAND`."""
_MOST_SECRET_BYTES = 10_000  # of a file of a secret
_SCALARS = {int, float, str, Path, Secret, Pairs}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a number may be. Infinity and NaN are never allowed."""

    minimum: float | None = None
    """The smallest value."""
    maximum: float | None = None
    """The largest value."""
    above: float | None = None
    """A bound below all values, itself not allowed."""
    below: float | None = None
    """A bound above all values, itself not allowed."""

    def hold(self, value: float) -> bool:
        """Whether `value` is allowed."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (isinstance(value, int) or math.isfinite(value))  # one of 400 digits is no float
        )

    def __str__(self) -> str:
        if self.minimum is not None and self.maximum is not None:
            return f"from {self.minimum} to {self.maximum}"
        bounds = {
            "at least": self.minimum,
            "above": self.above,
            "at most": self.maximum,
            "below": self.below,
        }
        return " and ".join(
            f"{word} {bound}" for word, bound in bounds.items() if bound is not None
        )


FREE = Limits()
"""Any finite number."""


def setting(
    default: Value,
    help: str,
    limits: Limits = FREE,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
    metavar: str | tuple[str, str] | None = None,
    main: bool = False,
) -> Value:
    """A field of a settings dataclass.

    Parameters
    ----------
    default : its default; None where the setting may be left out.
    help : what it does, with its unit: the text of `--help`.
    limits, minimum, maximum, above, below : what a number may be, see `Limits`.
    choices : the words that are allowed.
    metavar : what `--help` calls the value; by default its type.
    main : whether its option is the name of its section alone.
    """
    if limits is FREE:
        limits = Limits(minimum, maximum, above, below)
    metadata = {
        "help": help,
        "limits": limits,
        "choices": choices,
        "metavar": metavar,
        "main": main,
    }
    return dataclasses.field(default=default, metadata=metadata)


def group(default: Value) -> Value:
    """A field that holds settings which stand together in help; `default` are these settings."""
    return dataclasses.field(default=default)


def section(default: Value) -> Value:
    """A field that holds settings of a part by itself; `default` are these settings."""
    return dataclasses.field(default=default, metadata={"section": True})


class Settings:
    """Base of a dataclass whose values are checked where it is made. Raises SettingError."""

    def __post_init__(self) -> None:
        check(self)


def check(settings: Any) -> None:
    """Raise SettingError for the first value of a settings dataclass that is out of bounds."""
    for item, kind in _fields(type(settings)):
        value = getattr(settings, item.name)
        # Settings within these were checked where they were made.
        if (value is None and item.default is None) or dataclasses.is_dataclass(kind):
            continue
        wanted = trouble(value, kind, item.metadata)
        if wanted:
            raise SettingError(f"{item.name} {wanted}, not {value!r}")


def check_number(name: str, value: Any, kind: type[Any], limits: Limits = FREE) -> None:
    """Raise SettingError where `value` is no number of `kind` (int or float) within `limits`."""
    wanted = trouble(value, kind, {"limits": limits})
    if wanted:
        raise SettingError(f"{name} {wanted}, not {value!r}")


def number(kind: type[Any], limits: Limits = FREE) -> Callable[[str], Any]:
    """A `type` for argparse: an int or a float within `limits`."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = text
        wanted = trouble(value, kind, {"limits": limits})
        if wanted:
            raise argparse.ArgumentTypeError(f"{wanted}, not {text!r}")
        return value

    return parse


@dataclasses.dataclass(frozen=True)
class Option:
    """One value of a settings dataclass, or of settings within it."""

    path: tuple[str, ...]
    """Names of the fields that lead to it."""
    key: str
    """Its name in a settings file: `threads`, `mqtt.topic`."""
    flag: str
    """Its option: `--threads`, `--mqtt-topic`, `--mqtt`."""
    kind: type[Any]
    """Type of its value."""
    default: Any
    """Unless it is given."""
    help: str
    """What it does, with its unit."""
    metadata: Any
    """See `setting`."""

    @property
    def name(self) -> str:
        """Where argparse keeps it."""
        return self.key.replace(".", "_")

    @property
    def notes(self) -> str:
        """Bounds and default, for help."""
        limits = str(self.metadata.get("limits", FREE))
        unsaid = self.default in (None, "", ()) or self.default is False
        default = "on" if self.default is True else self.default
        return "; ".join(note for note in (limits, "" if unsaid else f"default: {default}") if note)


def options(settings: type[Any], before: str = "", path: tuple[str, ...] = ()) -> Iterator[Option]:
    """All values of a settings dataclass, in order; `before` is the section that it is."""
    documented: dict[str, str] | None = None
    for item, kind in _fields(settings):
        here = (*path, item.name)
        if dataclasses.is_dataclass(kind):
            within = item.name if item.metadata.get("section") else before
            yield from options(kind, within, here)
            continue
        if "help" not in item.metadata and documented is None:
            documented = _documented(settings)
        key = f"{before}.{item.name}" if before else item.name
        main = before and item.metadata.get("main")
        flag = f"--{before if main else key.replace('.', '-')}".replace("_", "-")
        text = item.metadata.get("help") or (documented or {}).get(item.name, "")
        yield Option(here, key, flag, kind, item.default, text, item.metadata)


def trouble(value: Any, kind: type[Any], metadata: Any) -> str:
    """What `value` of a setting should have been, as "must be ..."; nothing where it is that.

    `metadata` is what `setting` keeps: choices and limits.
    """
    choices = metadata.get("choices")
    if choices is not None:
        return "" if value in choices else f"must be one of {', '.join(map(str, choices))}"
    if kind == Pairs:
        pairs = isinstance(value, tuple) and all(
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(w, str) for w in pair)
            for pair in value
        )
        return "" if pairs else "must be pairs of words"
    if kind not in (int, float):
        return ""
    fits = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    limits: Limits = metadata.get("limits", FREE)
    if fits and limits.hold(value):
        return ""
    return f"must be {'a whole' if kind is int else 'a'} number {limits}".rstrip()


def add_arguments(
    parser: argparse._ActionsContainer, settings: type[Any], given_alone: bool = False
) -> None:
    """Give `parser` an option for every field of the dataclass `settings`.

    Where what is `given_alone` counts, others have no default: they come from elsewhere.
    """
    groups: dict[str, argparse._ActionsContainer] = {}
    for option in options(settings):
        if option.kind is Secret:
            continue
        place = parser
        if len(option.path) > 1:
            title = option.path[-2].replace("_", " ")
            if title not in groups:
                groups[title] = parser.add_argument_group(title)
            place = groups[title]
        _add_argument(place, option, argparse.SUPPRESS if given_alone else option.default)


def _add_argument(place: argparse._ActionsContainer, option: Option, default: Any) -> None:
    kind, text = option.kind, option.help.replace("%", "%%")
    notes = f" ({option.notes})" if option.notes else ""
    how: dict[str, Any] = {"dest": option.name, "default": default}
    metavar = option.metadata.get("metavar")
    if kind is bool:
        how |= {"action": argparse.BooleanOptionalAction, "help": text + notes}
    elif kind == Pairs:
        # A default would be appended to.
        how |= {"action": "append", "nargs": 2, "metavar": metavar, "help": text}
        how["default"] = argparse.SUPPRESS
    else:
        limits = option.metadata.get("limits", FREE)
        how |= {
            "type": number(kind, limits) if kind in (int, float) else kind,
            "metavar": metavar or kind.__name__.upper(),
            "choices": option.metadata.get("choices"),
            "help": text + notes,
        }
    place.add_argument(option.flag, **how)


def from_arguments(settings: type[Chosen], arguments: argparse.Namespace) -> Chosen:
    """The dataclass that the parsed `arguments` describe."""
    given = vars(arguments)
    return from_values(
        settings,
        {o.key: given[o.name] for o in options(settings) if o.name in given},
    )


def from_values(settings: type[Chosen], values: dict[str, Any], before: str = "") -> Chosen:
    """The dataclass with `values` by key, as in `Option.key`; the others have their defaults."""
    made: dict[str, Any] = {}
    for item, kind in _fields(settings):
        if dataclasses.is_dataclass(kind):
            within = item.name if item.metadata.get("section") else before
            made[item.name] = from_values(kind, values, within)
            continue
        key = f"{before}.{item.name}" if before else item.name
        if key in values:
            value = values[key]
            made[item.name] = tuple(map(tuple, value)) if kind == Pairs and value else value
    return settings(**made)


def _fields(settings: type[Any]) -> list[tuple[dataclasses.Field[Any], type[Any]]]:
    """Each field of a settings dataclass, a type, with the type of its value."""
    hints = get_type_hints(settings)
    return [(item, _plain(hints[item.name])) for item in dataclasses.fields(settings)]


def _documented(settings: type[Any]) -> dict[str, str]:
    """The docstring under each field of a dataclass, by field name: the help of a plain field.

    Nothing where the source is not there: a device may hold compiled files alone, so its own
    settings carry their help in `setting`.
    """
    try:
        source = inspect.getsource(settings)
    except (OSError, TypeError):
        return {}
    tree = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for field, follower in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(follower, ast.Expr)
            and isinstance(follower.value, ast.Constant)
        ):
            docs[field.target.id] = inspect.cleandoc(str(follower.value.value))
    return docs


def _plain(kind: Any) -> Any:
    """`X` of `X | None`; TypeError for a type that has no place on a command line."""
    options = [option for option in getattr(kind, "__args__", ()) if option is not type(None)]
    plain = options[0] if len(options) == 1 else kind
    if plain is not bool and plain not in _SCALARS and not dataclasses.is_dataclass(plain):
        raise TypeError(f"no command line form for {kind}")
    return plain
