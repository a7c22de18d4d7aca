"""What people use today beside ours: timed on the same audio with the same thread count in one run,
and judged on the same clips and folds.

One file a peer, one line of registration here. What a peer needs is imported when it runs: the
features are timed in a process that holds nothing else, and it comes through here.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.contest import Comparison, medians
from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle
    from training.evaluate.metrics import Metrics
    from training.run import Run

log = logging.getLogger(__name__)

SECONDS = 7.5  # the paper's window
_SLOW_RUNS = 10  # of features that take a tenth of a second and more
_FORMS = ("int8", "fake-quant")  # the form of ours that is compared: the first that was measured


def compare(bundle: Bundle, run: Run) -> list[Comparison]:
    """Time every peer against ours on 7.5 s of noise shaped like speech.

    `run` is the training run that `bundle` was built from.
    """
    from benchmarks.peers import onnx_float, speech_features
    from edge_runtime.bench import speechlike_noise

    return [
        speech_features.compare(speechlike_noise(SECONDS)),
        *(contest.time() for contest in onnx_float.contests(bundle, run)),
    ]


@dataclass(frozen=True)
class Standing:
    """How well, how fast and how large: one line of the accuracy table."""

    who: str
    metrics: dict[str, Metrics]
    """Corpus to accuracy over the clips of all test folds together."""
    fold_ua: dict[str, float]
    """Corpus to the mean of the folds' UA, 0 to 1; empty for ours: a bundle does not carry it."""
    ms: float
    """Median over 7.5 s of audio, ms: a peer's features, without its SVM; all that ours does."""
    file_bytes: int
    """A peer's files and the largest of its SVMs; the graphs of ours. Python packages and
    interpreters are not counted."""

    def cells(self, corpora: Sequence[str]) -> tuple[str, ...]:
        """A row of a table: who, then for each corpus UA / WA, mean fold UA; ms, MB."""
        accuracies: list[str] = []
        for corpus in corpora:
            found, folds = self.metrics.get(corpus), self.fold_ua.get(corpus)
            accuracies += [
                "-" if found is None else f"{found.ua_text()} / {100 * found.wa:.1f}",
                "-" if folds is None else f"{100 * folds:.1f}",
                "-" if found is None else str(found.n),
            ]
        return (self.who, *accuracies, f"{self.ms:.1f}", f"{self.file_bytes / 1e6:.1f}")

    def to_dict(self) -> dict[str, Any]:
        """The fields; each corpus as in the JSON of `accuracy`, with `fold_ua` where known."""
        corpora = {
            corpus: {
                **metrics.to_dict(),
                **({"fold_ua": round(self.fold_ua[corpus], 4)} if corpus in self.fold_ua else {}),
            }
            for corpus, metrics in self.metrics.items()
        }
        return {
            "who": self.who,
            "corpora": corpora,
            "ms": round(self.ms, 2),
            "file_bytes": self.file_bytes,
        }


def compare_accuracy(
    bundle: Bundle, corpora: Sequence[str], folds: int = 5, jobs: int | None = None
) -> list[Standing]:
    """Ours, then every peer whose package is there, on labelled corpora.

    Ours are the figures that `bundle` carries from its own cross-validation. Peers without their
    package are named in the log. Raises TrainingError for corpora that cannot be read or do not
    fold, BenchmarkError for one without audio, or where no peer is left.

    Parameters
    ----------
    bundle : ours.
    corpora : NAME=PATH, each judged by itself.
    folds : speaker-independent folds.
    jobs : processes at a time; by default one a core.
    """
    from benchmarks.peers import opensmile_sets, speaker_svm, svm
    from edge_runtime import EmotionStream
    from edge_runtime.bench import speechlike_noise
    from edge_runtime.stream import classify
    from training.corpora import load_corpora

    known = [*opensmile_sets.peers(), *speaker_svm.peers()]
    peers = [peer for peer in known if find_spec(peer.package)]
    for peer in known:
        if peer not in peers:
            log.warning("%s is left out: %s", peer.name, peer.install)
    if not peers:
        raise BenchmarkError("no peer is installed: pip install 'edge-emotion[bench]'")
    utterances = {}
    for name, found in load_corpora(corpora).items():
        utterances[name] = [u for u in found.utterances if u.path is not None]
        if not utterances[name]:
            raise BenchmarkError(f"{name} has no audio to compare on: its utterances are text only")
    judged = [
        {name: svm.judge(peer, heard, folds, jobs) for name, heard in utterances.items()}
        for peer in peers
    ]
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    signal = speechlike_noise(SECONDS)
    ours_ms, *peers_ms = medians(
        [lambda: classify(stream, signal), *(partial(peer.extract, signal) for peer in peers)],
        _SLOW_RUNS,
    )
    rows = [_ours(bundle, list(utterances), ours_ms)]
    for peer, results, ms in zip(peers, judged, peers_ms, strict=True):
        rows.append(
            Standing(
                peer.name,
                {name: result.metrics for name, result in results.items()},
                {name: statistics.mean(result.fold_ua) for name, result in results.items()},
                ms,
                peer.file_bytes() + max(result.svm_bytes for result in results.values()),
            )
        )
    return rows


def _ours(bundle: Bundle, corpora: Sequence[str], ms: float) -> Standing:
    """The figures that a bundle carries."""
    from edge_runtime.manifest import AUDIO
    from training.evaluate.metrics import Metrics

    carried = bundle.manifest.metrics.get("corpora", {})
    metrics, folds = {}, {}
    form = ""
    for name in corpora:
        # What the peers have, too: the sound alone.
        forms = carried.get(name, {}).get(AUDIO, {})
        form = next((f for f in _FORMS if f in forms), "")
        if form:
            metrics[name] = Metrics.of(forms[form])
            if "ua_folds" in forms[form]:
                folds[name] = float(statistics.mean(forms[form]["ua_folds"]))
    who = f"ours: {bundle.manifest.name}, {form or 'int8'}"
    return Standing(who, metrics, folds, ms, bundle.file_bytes())
