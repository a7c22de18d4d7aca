"""What the engines made of pocketsphinx share: its model, opened."""

from __future__ import annotations

from typing import Any

from edge_runtime.errors import MissingPackageError, TextError

try:
    import pocketsphinx
except ImportError:
    raise MissingPackageError("hearing words with pocketsphinx", "pocketsphinx", "asr") from None

FRAME_SECONDS = 0.01  # its frames


def open_decoder(**options: Any) -> pocketsphinx.Decoder:
    """A decoder on the US English model of its package; TextError where that cannot be opened.

    `options` are pocketsphinx's own, such as `lm=None` for one without a language model.
    """
    try:
        return pocketsphinx.Decoder(**{"loglevel": "FATAL", **options})
    except RuntimeError as error:
        raise TextError(
            f"pocketsphinx cannot open its model in {pocketsphinx.get_model_path()} ({error}); "
            "install it again: pip install --force-reinstall pocketsphinx"
        ) from None
