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
    from benchmarks.peers.judging import Peer
    from benchmarks.peers.rules import PeerSettings
    from edge_runtime.bundle import Bundle
    from training.data.folds import Cut
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
    """A peer's files and the largest of its SVMs, a network as float32 ONNX; the graphs of ours.
    Python packages and interpreters are not counted."""
    seconds: float | None = None
    """How much of a clip it hears at most; None: all of it."""
    parameters: int | None = None
    """What a network trains; None for features, and for ours."""

    @property
    def ms_per_second(self) -> float:
        """Ms for a second of the audio that it hears."""
        return self.ms / min(SECONDS, self.seconds or SECONDS)

    @property
    def heard(self) -> str:
        """How much of a clip it hears."""
        return "all" if self.seconds is None else f"{self.seconds:.1f} s"

    def mean_ua(self, corpora: Sequence[str]) -> float | None:
        """Mean of the UA of `corpora`, 0 to 1; None where one was not judged, or there is none."""
        if not corpora or any(corpus not in self.metrics for corpus in corpora):
            return None
        return statistics.mean(self.metrics[corpus].ua for corpus in corpora)

    def cells(self, corpora: Sequence[str]) -> tuple[str, ...]:
        """A row of a table: who, then for each corpus UA / WA, mean fold UA, clips; `costs`."""
        accuracies: list[str] = []
        for corpus in corpora:
            found, folds = self.metrics.get(corpus), self.fold_ua.get(corpus)
            accuracies += [
                "-" if found is None else f"{found.ua_text()} / {100 * found.wa:.1f}",
                "-" if folds is None else f"{100 * folds:.1f}",
                "-" if found is None else str(found.n),
            ]
        return (self.who, *accuracies, *self.costs().values())

    def costs(self) -> dict[str, str]:
        """What it takes, by the heads of a table's columns."""
        return {
            "ms per 7.5 s": f"{self.ms:.1f}",
            "hears of a clip": self.heard,
            "ms per s heard": f"{self.ms_per_second:.2f}",
            "parameters": "-" if self.parameters is None else str(self.parameters),
            "MB": f"{self.file_bytes / 1e6:.1f}",
        }

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
            "ms_per_second": round(self.ms_per_second, 3),
            "seconds": self.seconds,
            "parameters": self.parameters,
            "file_bytes": self.file_bytes,
        }


@dataclass(frozen=True)
class Accuracy:
    """Ours and every peer on the same corpora."""

    standings: list[Standing]
    """Ours first."""
    protocols: dict[str, str]
    """What the figures of peers, of ours and of each network rest on."""
    together: bool
    """Whether peers learned from all corpora at once."""
    same_folds: bool
    """Whether ours are of these very folds, as far as the bundle says."""

    @property
    def corpora(self) -> list[str]:
        """What was judged, in the order given."""
        return list(self.standings[-1].metrics)

    @property
    def complete(self) -> list[str]:
        """The corpora that have every class that any has: what a mean is over."""
        recalls = {name: m.per_class_recall for name, m in self.standings[-1].metrics.items()}
        classes = {label for found in recalls.values() for label in found}
        return [name for name, found in recalls.items() if found.keys() == classes]

    def to_dict(self) -> dict[str, Any]:
        """The figures; where corpora were trained on together, their mean UA as well."""
        rows = [standing.to_dict() for standing in self.standings]
        if not self.together:
            return {"protocols": self.protocols, "standings": rows}
        for row, standing in zip(rows, self.standings, strict=True):
            mean = standing.mean_ua(self.complete)
            row["mean_ua"] = None if mean is None else round(mean, 4)
        return {
            "protocols": self.protocols,
            "same_folds": self.same_folds,
            "mean_over": self.complete,
            "standings": rows,
        }


def compare_accuracy(
    bundle: Bundle, corpora: Sequence[str], settings: PeerSettings | None = None
) -> Accuracy:
    """Ours, then peers, on labelled corpora.

    Ours are the figures that `bundle` carries from its own cross-validation, with `--by corpus`
    those of corpora that never trained. Peers without their package are named in the log.

    Parameters
    ----------
    bundle : ours.
    corpora : NAME=PATH.
    settings : which peers, and what they learn from.

    Raises TrainingError for corpora that cannot be read or do not fold, BenchmarkError for one
    without audio, for a peer that is asked for and not there, or where no peer is left.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from benchmarks.peers import rules
    from edge_runtime import EmotionStream
    from edge_runtime.bench import speechlike_noise
    from edge_runtime.stream import classify

    settings = settings or rules.PeerSettings()
    peers = _chosen(settings.only)
    groups = rules.groups(corpora, settings)
    jobs = settings.folds.jobs
    epochs = settings.epochs
    judged = [[peer.judge(g.utterances, g.plan, jobs, epochs) for g in groups] for peer in peers]
    labels = {u.label for group in groups for u in group.utterances}
    costs = [peer.cost(len(labels)) for peer in peers]
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    signal = speechlike_noise(SECONDS)
    with threadpool_limits(1):
        ours_ms, *peers_ms = medians(
            [lambda: classify(stream, signal), *(partial(cost.run, signal) for cost in costs)],
            _SLOW_RUNS,
        )
    rows = []
    for peer, results, cost, ms in zip(peers, judged, costs, peers_ms, strict=True):
        folds = {name: ua for result in results for name, ua in result.fold_ua.items()}
        rows.append(
            Standing(
                peer.name,
                {name: found for result in results for name, found in result.metrics.items()},
                {name: statistics.mean(ua) for name, ua in folds.items()},
                ms,
                cost.file_bytes + max(result.model_bytes for result in results),
                cost.seconds,
                cost.parameters,
            )
        )
    carried = bundle.manifest.metrics
    if settings.cut == "corpus":
        carried = carried.get("unseen", {})
    ours = _ours(bundle, carried, list(rows[0].metrics), ours_ms)
    folds_of_peers = "; ".join(group.protocol for group in groups)
    protocols = {
        "peers": f"{folds_of_peers}; {_learned(settings.cut, settings.all_at_once)}; "
        + "; ".join(dict.fromkeys(peer.protocol for peer in peers)),
        "ours": str(carried.get("protocol", "none in this bundle")),
    }
    for peer, results in zip(peers, judged, strict=True):
        if notes := "; ".join(dict.fromkeys(result.note for result in results if result.note)):
            protocols[peer.key] = notes
    same = protocols["ours"].split("; ")[0] == folds_of_peers and all(
        ours.metrics[name].n == found.n if name in ours.metrics else False
        for name, found in rows[0].metrics.items()
    )
    return Accuracy([ours, *rows], protocols, settings.all_at_once, same)


def _chosen(only: str) -> list[Peer]:
    """The peers that are named in `only`, apart by commas; the installed feature sets for "".

    Raises BenchmarkError where one that is named does not exist or is not installed, or none is.
    """
    from benchmarks.peers import light_sernet, opensmile_sets, reslstm_sa, speaker_svm, tim_net

    sets: list[Peer] = [*opensmile_sets.peers(), *speaker_svm.peers()]
    networks: list[Peer] = [*light_sernet.peers(), *tim_net.peers(), *reslstm_sa.peers()]
    known = {peer.key: peer for peer in (*sets, *networks)}
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise BenchmarkError(
                f"--only {name}: no such peer; expected some of {', '.join(known)}"
            )
        if not find_spec(known[name].package):
            raise BenchmarkError(f"--only {name}: not installed: {known[name].install}")
    peers = [peer for key, peer in known.items() if key in names] if names else sets
    installed = [peer for peer in peers if find_spec(peer.package)]
    for peer in peers:
        if peer not in installed:
            log.warning("%s is left out: %s", peer.name, peer.install)
    if not installed:
        raise BenchmarkError("no peer is installed: pip install 'edge-emotion[bench]'")
    return installed


def _learned(cut: Cut, together: bool) -> str:
    """What a classifier of peers learned from, one phrase."""
    if not together:
        return "each corpus by itself"
    return "all other corpora at once" if cut == "corpus" else "all corpora at once"


def _ours(bundle: Bundle, carried: dict[str, Any], corpora: Sequence[str], ms: float) -> Standing:
    """The figures that a bundle carries, by `corpora`."""
    from edge_runtime.manifest import AUDIO
    from training.evaluate.metrics import Metrics

    metrics, folds = {}, {}
    form = ""
    for name in corpora:
        # What the peers have, too: the sound alone.
        forms = carried.get("corpora", {}).get(name, {}).get(AUDIO, {})
        form = next((f for f in _FORMS if f in forms), "")
        if form:
            metrics[name] = Metrics.of(forms[form])
            if "ua_folds" in forms[form]:
                folds[name] = float(statistics.mean(forms[form]["ua_folds"]))
    who = f"ours: {bundle.manifest.name}, {form or 'int8'}"
    return Standing(who, metrics, folds, ms, bundle.file_bytes())
