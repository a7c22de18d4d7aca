"""Resemblyzer's speaker embedding: what knowing the voice alone says about the emotion.

256 values of the encoder that `training.data.speaker` describes; pauses are cut out by its own
voice activity detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.svm import FeaturePeer
from edge_runtime.pcm import Float32
from training.corpora import Utterance
from training.data.speaker import speaker_key
from training.data.speaker_encoder import embed, embed_clip
from training.data.speaker_files import RESEMBLYZER


def peers() -> list[FeaturePeer]:
    """The one."""
    return [
        FeaturePeer(
            RESEMBLYZER,
            "Resemblyzer embedding + SVM",
            RESEMBLYZER,
            "pip install 'edge-emotion[speaker]' && pip install --no-deps resemblyzer",
            embed_clip,
            _extract,
            _file_bytes,
        )
    ]


def _extract(utterances: Sequence[Utterance], jobs: int | None) -> list[Float32 | None]:
    found = embed(utterances, workers=jobs).vectors
    return [found[speaker_key(utterance)] for utterance in utterances]


def _file_bytes() -> int:
    """The encoder's weights."""
    spec = find_spec(RESEMBLYZER)
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    return sum(path.stat().st_size for path in folder.glob("*.pt"))
