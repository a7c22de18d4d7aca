"""Settings as dataclasses, and the command line they imply.

A field becomes `--field-name`, its default the default, the docstring beneath it the help text;
a bool becomes `--x / --no-x`. Style: the settings say once what a command can do.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Settings = TypeVar("Settings")

_SCALARS = {int, float, str, Path}


def add_arguments(parser: argparse._ActionsContainer, settings: type[Any]) -> None:
    """Give `parser` an option for every field of the dataclass `settings`."""
    hints, helps = get_type_hints(settings), field_docs(settings)
    for item in dataclasses.fields(settings):
        option, kind = "--" + item.name.replace("_", "-"), _plain(hints[item.name])
        text = helps.get(item.name, "").replace("%", "%%")
        if kind is bool:
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=item.default, help=text
            )
            continue
        shown = "" if item.default in (None, "", ()) else f" (default: {item.default})"
        parser.add_argument(
            option,
            type=kind,
            default=item.default,
            metavar=item.metadata.get("metavar", kind.__name__.upper()),
            choices=item.metadata.get("choices"),
            help=text + shown,
        )


def from_arguments(settings: type[Settings], arguments: argparse.Namespace) -> Settings:
    """The dataclass that the parsed `arguments` describe."""
    names = [item.name for item in dataclasses.fields(settings)]  # type: ignore[arg-type]
    return settings(**{name: getattr(arguments, name) for name in names})


def field_docs(settings: type[Any]) -> dict[str, str]:
    """The docstring under each field of a dataclass, by field name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(settings))).body[0]
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
    if plain is not bool and plain not in _SCALARS:
        raise TypeError(f"no command line form for {kind}")
    return plain
