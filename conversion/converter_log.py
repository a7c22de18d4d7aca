"""What the converters print: kept off the terminal, and in the error where one fails."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import tempfile
from collections.abc import Iterator

from conversion.errors import ConversionError

_LAST = 3  # lines in an error
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def converter(name: str, graph: str) -> Iterator[None]:
    """Run the converter `name` on `graph`.

    Whatever it raises, and a SystemExit, becomes a ConversionError with its message, the last lines
    that were printed, and the name of the file that holds all of them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    printed = io.StringIO()
    records = logging.StreamHandler(printed)
    logging.getLogger().addHandler(records)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    except (Exception, SystemExit) as error:
        raise ConversionError(_explain(name, graph, error, printed.getvalue())) from error
    finally:
        logging.getLogger().removeHandler(records)


def _explain(name: str, graph: str, error: BaseException, printed: str) -> str:
    """One line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    text = _COLOR.sub("", printed)
    # Of a line that was drawn over, a progress bar, what stood there last.
    lines = [line.rstrip().split("\r")[-1].strip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    message = f"{name} failed on {graph}: {reason}"
    if not lines:
        return message
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"{name}-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write("\n".join(lines) + "\n")
    last = " | ".join(line[:200] for line in lines[-_LAST:])
    return f"{message}; its last lines: {last}; all of them are in {file.name}"
