"""Packages that `make setup` installs beside the dependencies: their tests are skipped without."""

from __future__ import annotations

import pytest

from training.data.teachers import whisper
from training.errors import TrainingError


def need_whisper() -> None:
    """Skip the test, and say why, where the published weights of the encoder are not installed."""
    try:
        whisper.weights()
    except TrainingError as error:
        pytest.skip(str(error))
