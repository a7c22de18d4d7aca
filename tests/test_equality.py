"""Comparing two of our objects answers, whatever they hold; it never raises."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from edge_runtime import load_bundle
from edge_runtime.errors import MissingPackageError
from edge_runtime.model.recognizer import Recognizer

torch = pytest.importorskip("torch")

PACKAGES = ("edge_runtime", "training", "conversion", "benchmarks")


def modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}."):
            try:
                yield importlib.import_module(info.name)
            except MissingPackageError:
                continue


def records() -> set[type[Any]]:
    """Every dataclass and named tuple of the four packages."""
    return {
        item
        for module in modules()
        for _, item in inspect.getmembers(module, inspect.isclass)
        if item.__module__ == module.__name__
        and (dataclasses.is_dataclass(item) or hasattr(item, "_fields"))
    }


def holds_arrays(kind: Any) -> bool:
    """Whether comparing values of the type `kind` compares arrays."""
    origin = get_origin(kind) or kind
    if origin is Callable:
        return False
    if isinstance(origin, type) and issubclass(origin, np.ndarray | torch.Tensor):
        return True
    return any(holds_arrays(part) for part in get_args(kind) if part is not ...)


def compares_fields(kind: type[Any]) -> bool:
    return issubclass(kind, tuple) or "__eq__" in vars(kind)


def test_what_holds_arrays_is_not_compared_field_by_field() -> None:
    """Arrays have no one truth value: `==` on a field that is one raises."""
    found, wrong = 0, []
    for kind in records():
        # What is only imported for type checkers cannot be looked up; none of it is an array.
        names = vars(importlib.import_module(kind.__module__))
        hints = get_type_hints(kind, localns=_Lenient(names))
        if any(holds_arrays(hint) for hint in hints.values()):
            found += 1
            if compares_fields(kind):
                wrong.append(f"{kind.__module__}.{kind.__name__}")
    assert sorted(wrong) == []
    assert found > 15


class _Lenient(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        if name in vars(__import__("builtins")):
            raise KeyError(name)
        return Any


def test_bundles_can_be_compared_and_kept_in_sets(bundle_path: Path) -> None:
    one, other = load_bundle(bundle_path), load_bundle(bundle_path)
    assert one == one
    assert one != other
    assert one.manifest != other.manifest
    assert one.manifest.audio != other.manifest.audio
    assert len({one, other, one}) == 2


def test_verdicts_can_be_compared(bundle_path: Path) -> None:
    recognizer = Recognizer(load_bundle(bundle_path))
    one, other = (recognizer.judge_text("she is gone") for _ in range(2))
    assert one is not None
    assert other is not None
    assert one != other
    assert np.array_equal(one.scores, other.scores)
