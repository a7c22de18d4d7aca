"""What a run is adapted from: its encoder as the device runs it, and what that pools of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle import DEFAULT
from edge_runtime.pcm import SAMPLE_RATE
from training.adapt.head import View
from training.corpora import Utterance
from training.data.augment import CLEAN
from training.errors import TrainingError
from training.evaluate.judge import convert
from training.evaluate.pretrained import ear_of, hear_states
from training.evaluate.reference import Heard, hear
from training.fit.warmstart import audio_alone
from training.run import DEFAULT_RUN, Pretrained, Run, load
from training.tiers import EXTENTS, LARGE, SMALL, TIERS


@dataclass(frozen=True)
class Base:
    """A finished run, of which the encoder is kept."""

    name: str
    """What the command line calls it; of a folder its last part."""
    run: Run
    """What of it judges sound alone."""
    bundle: str
    """The bundle whose encoder is this run's: a folder, or the one in the box."""
    tier: str
    """How much of a pre-trained encoder hears along."""
    folder: Path = DEFAULT_RUN
    """Where the run is."""
    pretrained: Pretrained | None = None
    """What judges along with the run, where a pre-trained encoder hears along."""

    def hear(
        self, utterances: Sequence[Utterance], jobs: int | None, progress: bool = True
    ) -> tuple[Heard, list[int]]:
        """What the device's own code pools of clips, and the places of those heard; cached.

        Raises TrainingError where nothing can be heard.
        """
        return hear(self.bundle, utterances, jobs, progress, "hearing clips")


def encoder_view(
    base: Base, heard: Heard, jobs: int | None, progress: bool = True
) -> tuple[Heard, View]:
    """What the base's pre-trained encoder makes of clips; of them, those that it hears as well.

    Of a base without one it is the published encoder, as much of it as the large tier has where the
    base's own has none.

    Raises TrainingError as `hear_states`, such as without the package that has its weights.
    """
    segment = base.run.features.segment
    extent = EXTENTS.get(base.tier, EXTENTS[LARGE])
    ear = ear_of(extent, base.pretrained.encoder if base.pretrained else None)
    states, places = hear_states(
        heard.utterances, segment, (CLEAN,), jobs, progress, graph=ear.graph
    )
    values = states.values[:, 0]
    return heard.take(places), View(values, float(values.std(axis=0).mean()))


def open_base(source: str, work: Path) -> Base:
    """The base that `--from` names: a tier of the shipped run, or the folder of a run.

    The bundle of a folder is made in `work`. Raises TrainingError for a folder that holds no run,
    one that does not hear, or whose features no device computes, or that cannot be converted.
    """
    if source in TIERS:
        shipped = load(DEFAULT_RUN)
        pretrained = shipped.pretrained.get(source)
        return Base(source, audio_alone(shipped), DEFAULT, source, pretrained=pretrained)
    run = load(Path(source))
    _check_features(run, source)
    run = audio_alone(run)
    run.save(work / "base")
    bundle = convert(work / "base", work / "bundle", "--no-whole")
    return Base(Path(source).resolve().name, run, str(bundle), SMALL, Path(source))


def _check_features(run: Run, source: str) -> None:
    """Refuse a run whose features are not those that a device computes; other hops and bands are.

    A bundle carries their every number, so that a device computes them as they were.
    """
    mfcc, width = run.features.mfcc, run.config.features
    if mfcc.sample_rate != SAMPLE_RATE:
        raise TrainingError(
            f"{source} hears {mfcc.sample_rate} Hz, and a device hears {SAMPLE_RATE}: train it "
            "again (python -m training fit)"
        )
    if mfcc.features != width:
        raise TrainingError(
            f"{source}: its network takes {width} features a frame, and its settings make "
            f"{mfcc.features}: they are of two models; train it again (python -m training fit)"
        )
