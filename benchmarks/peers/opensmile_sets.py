"""openSMILE functionals: the features that most papers and products are compared with.

eGeMAPSv02, 88 values (Eyben et al. 2016, doi 10.1109/TAFFC.2015.2457417), and ComParE_2016, 6373
values (Schuller et al. 2016, doi 10.21437/Interspeech.2016-129), by audEERING's package, which is
free for research and private use only.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.svm import FeaturePeer
from edge_runtime.errors import AudioError
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16
from training.corpora import Utterance
from training.data.cache import cache_folder, kept, opened_cache, parallel

log = logging.getLogger(__name__)

SETS = ("eGeMAPSv02", "ComParE_2016")
_PACKAGE = "opensmile"
_CACHE_VERSION = 1  # raise when the code below changes what `functionals` computes
_FULL_SCALE = 32768  # of int16


def peers() -> list[FeaturePeer]:
    """One for each of `SETS`."""
    return [
        FeaturePeer(
            name,
            f"openSMILE {name} + SVM",
            _PACKAGE,
            "pip install 'edge-emotion[bench]'",
            partial(functionals, feature_set=name),
            partial(extract, name),
            _file_bytes,
        )
        for name in SETS
    ]


def functionals(samples: Int16, feature_set: str) -> Float32 | None:
    """The values of one of `SETS` over a clip, float32 (88,) or (6373,).

    `samples` are int16, mono, 16 kHz, (n,). None for a clip that is too short for the set.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says that NaN stands for what is too short
        signal = samples.astype(np.float32) / _FULL_SCALE
        values = _smile(feature_set).process_signal(signal, SAMPLE_RATE).to_numpy(np.float32)[0]
    return values if np.isfinite(values).all() else None


def extract(
    feature_set: str,
    utterances: Sequence[Utterance],
    jobs: int | None = None,
    folder: Path | None = None,
) -> list[Float32 | None]:
    """`functionals` of the whole clip of each utterance, from the cache where they are known.

    `jobs` are processes, by default one a core; `folder` is the cache, by default
    `cache_folder("opensmile")`. None for a clip that cannot be read, is too short, or is text only.
    """
    folder = opened_cache(folder or cache_folder(_PACKAGE))
    version = importlib.metadata.version(_PACKAGE)
    tasks = [(utterance, feature_set, version, folder) for utterance in utterances]
    result: list[Float32 | None] = []
    outcomes = parallel(_extract_one, tasks, jobs, f"openSMILE {feature_set}")
    for utterance, outcome in zip(utterances, outcomes, strict=True):
        if isinstance(outcome, str):
            log.warning("no %s of %s: %s", feature_set, utterance.path, outcome)
            result.append(None)
        else:
            result.append(outcome)
    return result


def _extract_one(task: tuple[Utterance, str, str, Path]) -> Float32 | str:
    """The values of one clip, or why it has none."""
    utterance, feature_set, version, folder = task
    if utterance.path is None:
        return "text only"
    try:
        vector = kept(
            folder,
            utterance,
            lambda samples: functionals(samples, feature_set) if samples.size else None,
            *(_CACHE_VERSION, _PACKAGE, version, feature_set),
        )
    except (AudioError, OSError) as error:
        return str(error)
    return "it is too short" if vector is None else vector


@cache
def _smile(feature_set: str) -> Any:
    import opensmile

    return opensmile.Smile(
        getattr(opensmile.FeatureSet, feature_set), opensmile.FeatureLevel.Functionals
    )


def _file_bytes() -> int:
    """The native library and the settings of all its feature sets."""
    import opensmile

    core = Path(opensmile.__file__).parent / "core"
    files = (p for name in ("bin", "config") for p in (core / name).rglob("*") if p.is_file())
    return sum(path.stat().st_size for path in files)
