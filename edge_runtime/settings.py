"""Settings as dataclasses, the bounds of their values, and the command line they imply.

    @dataclass(frozen=True)
    class RunSettings(Settings):
        threads: int = setting(1, "Threads of the interpreter.", minimum=1, maximum=64)

A field becomes `--field-name`; a bool becomes `--x / --no-x`; a field that holds settings itself
becomes a group of options, named as the field. What is out of bounds is refused with one line that
names the setting, what was expected and what was found, wherever it comes from: an argument, or
Python.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from edge_runtime.errors import SettingError

Chosen = TypeVar("Chosen")
Value = TypeVar("Value")

_SCALARS = {int, float, str, Path}


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
            and math.isfinite(value)
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
    metavar: str | None = None,
) -> Value:
    """A field of a settings dataclass.

    Parameters
    ----------
    default : its default; None where the setting may be left out.
    help : what it does, with its unit: the text of `--help`.
    limits, minimum, maximum, above, below : what a number may be, see `Limits`.
    choices : the words that are allowed.
    metavar : what `--help` calls the value; by default its type.
    """
    if limits is FREE:
        limits = Limits(minimum, maximum, above, below)
    metadata = {"help": help, "limits": limits, "choices": choices, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


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
        wanted = _trouble(value, kind, item.metadata)
        if wanted:
            raise SettingError(f"{item.name} {wanted}, not {value!r}")


def check_number(name: str, value: Any, kind: type[Any], limits: Limits = FREE) -> None:
    """Raise SettingError where `value` is no number of `kind` (int or float) within `limits`."""
    wanted = _trouble(value, kind, {"limits": limits})
    if wanted:
        raise SettingError(f"{name} {wanted}, not {value!r}")


def number(kind: type[Any], limits: Limits = FREE) -> Callable[[str], Any]:
    """A `type` for argparse: an int or a float within `limits`."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = text
        wanted = _trouble(value, kind, {"limits": limits})
        if wanted:
            raise argparse.ArgumentTypeError(f"{wanted}, not {text!r}")
        return value

    return parse


def add_arguments(parser: argparse._ActionsContainer, settings: type[Any]) -> None:
    """Give `parser` an option for every field of the dataclass `settings`."""
    documented: dict[str, str] | None = None
    for item, kind in _fields(settings):
        if dataclasses.is_dataclass(kind):
            add_arguments(parser.add_argument_group(item.name.replace("_", " ")), kind)
            continue
        if "help" not in item.metadata and documented is None:
            documented = _documented(settings)
        text = item.metadata.get("help") or (documented or {}).get(item.name, "")
        text = text.replace("%", "%%")
        option = "--" + item.name.replace("_", "-")
        if kind is bool:
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=item.default, help=text
            )
            continue
        limits = item.metadata.get("limits", FREE)
        notes = [str(limits)] if str(limits) else []
        notes += [] if item.default in (None, "", ()) else [f"default: {item.default}"]
        parser.add_argument(
            option,
            type=number(kind, limits) if kind in (int, float) else kind,
            default=item.default,
            metavar=item.metadata.get("metavar") or kind.__name__.upper(),
            choices=item.metadata.get("choices"),
            help=text + (f" ({'; '.join(notes)})" if notes else ""),
        )


def from_arguments(settings: type[Chosen], arguments: argparse.Namespace) -> Chosen:
    """The dataclass that the parsed `arguments` describe."""
    return settings(
        **{
            item.name: from_arguments(kind, arguments)
            if dataclasses.is_dataclass(kind)
            else getattr(arguments, item.name)
            for item, kind in _fields(settings)
        }
    )


def _trouble(value: Any, kind: type[Any], metadata: Any) -> str:
    """What `value` should have been; nothing where it is that."""
    choices = metadata.get("choices")
    if choices is not None:
        return "" if value in choices else f"must be one of {', '.join(map(str, choices))}"
    if kind not in (int, float):
        return ""
    fits = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    limits: Limits = metadata.get("limits", FREE)
    if fits and limits.hold(value):
        return ""
    return f"must be {'a whole' if kind is int else 'a'} number {limits}".rstrip()


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
