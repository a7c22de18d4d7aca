"""Speech emotion recognition on the device: microphone in, emotion events out.

from edge_runtime import EmotionStream, load_bundle
stream = EmotionStream(load_bundle("default"))
events = stream.feed(samples) + stream.finish()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle, load_bundle
    from edge_runtime.errors import EdgeError
    from edge_runtime.stream import EmotionStream

__version__ = "0.1.0"
__all__ = ["Bundle", "EdgeError", "EmotionStream", "__version__", "load_bundle"]

_HOMES = {
    "Bundle": "edge_runtime.bundle",
    "EdgeError": "edge_runtime.errors",
    "EmotionStream": "edge_runtime.stream",
    "load_bundle": "edge_runtime.bundle",
}


def __getattr__(name: str) -> Any:
    """Import on first use: training needs the features, not the interpreter."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
