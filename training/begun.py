"""What a run, or the folds of a crossval, was begun with: it goes on with just that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.output import at_once

PLAN = "plan.json"


def begin(folder: Path, given: dict[str, Any], go_on: bool) -> None:
    """Keep in `folder` what its models are made from; where it goes on, that must be as it was.

    `given` has the parts of it, such as settings and data, each by name; JSON keeps it. Raises
    TrainingError, which names the first difference, where `go_on` and another model was begun.
    """
    path = folder / PLAN
    plan = json.loads(json.dumps(given))
    if go_on and path.exists():
        differs = _difference(json.loads(path.read_text(encoding="utf-8")), plan)
        if differs:
            raise TrainingError(
                f"{folder} was begun with other data or settings ({differs}); choose another "
                "--out, or give what it was begun with"
            )
    with at_once(path) as new:
        new.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")


def _difference(begun: Any, given: dict[str, Any]) -> str:
    """What of `given` was other, in a few words; nothing where all is alike."""
    if not isinstance(begun, dict):
        return "of an earlier version"
    part: str
    for part in [*given, *begun]:
        was, now = begun.get(part), given.get(part)
        if was == now:
            continue
        if not (isinstance(was, dict) and isinstance(now, dict)):
            return part
        for name in [*now, *was]:
            old, new = was.get(name), now.get(name)
            if old != new:
                told = all(isinstance(value, str | int | float | None) for value in (old, new))
                return f"{name.replace('_', '-')} {old}, not {new}" if told else name
    return ""
