"""The schedule of training, as options; needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import SettingError
from edge_runtime.settings import Settings, setting
from training.data.teachers import names_of
from training.limits import SEEDS


@dataclass(frozen=True)
class SurroundingSettings(Settings):
    """Where devices stand that hear the clips (`training.data.degrade`)."""

    noises: str = setting(
        "",
        "Folders of noises, apart by commas: with these, --rooms or --babble each training clip is "
        "also heard as devices hear it, among noises, in rooms, through microphones and codecs "
        "(training/data/degrade.py), in place of --augment.",
        metavar="DIR,...",
    )
    rooms: str = setting(
        "", "Folders of impulse responses of rooms, apart by commas.", metavar="DIR,..."
    )
    babble: str = setting(
        "",
        "Folders of ordinary speech, apart by commas, of which people talking behind are made.",
        metavar="DIR,...",
    )
    versions: int = setting(
        5,
        "With any of these three: versions of each clip beside itself.",
        minimum=1,
        maximum=100,
    )
    nonspeech: str = setting(
        "",
        "Folders of sounds that are no speech, apart by commas: where a device would take them for "
        "speech, they train to be unsure. For a model of sound alone.",
        metavar="DIR,...",
    )

    @property
    def surrounded(self) -> bool:
        """Whether clips are put among noises, rooms or other people."""
        return bool(self.noises or self.rooms or self.babble)


@dataclass(frozen=True)
class EncoderSettings(Settings):
    """How an encoder is trained further."""

    encoder_epochs: int = setting(
        0,
        "Epochs of training the encoder further, such as 6, about two minutes of one core each for "
        "3,400 clips with --bf16: for people like those that train, see docs/tiers.md; 0 leaves it "
        "as it is published.",
        minimum=0,
    )
    encoder_share: float = setting(
        0.5,
        "How far to go from the published weights to those that were trained.",
        minimum=0.0,
        maximum=1.0,
    )
    encoder_lr: float = setting(
        1e-4, "Highest learning rate of the encoder (AdamW, one cycle).", minimum=0.0
    )
    encoder_batch: int = setting(24, "Clips a step.", minimum=4)
    bf16: bool = setting(
        False,
        "Let it multiply in bfloat16: twice as fast on processors that have it, much slower on "
        "others.",
    )
    seed: int = setting(0, "Of order, cuts and masks.")


@dataclass(frozen=True)
class FitSettings(SurroundingSettings):
    """How a model is trained."""

    teacher: str = setting(
        "",
        "Frozen encoders that teach the audio maps, apart by commas: resemblyzer, whisper.",
        metavar="NAMES",
    )
    teacher_epochs: int = setting(
        50,
        "With a teacher: epochs that learn from it alone, before the others.",
        minimum=0,
    )
    teacher_lr: float = setting(
        2e-3,
        "With a teacher: peak learning rate of those epochs.",
        above=0,
        maximum=1,
    )
    teacher_weight: float = setting(
        0.5,
        "With a teacher: weight of its loss in the epochs after those.",
        minimum=0,
    )
    epochs: int = setting(50, "Float epochs.", minimum=1)
    qat_epochs: int = setting(8, "Quantization-aware epochs after them.", minimum=1)
    batch: int | None = setting(
        None,
        "Clips per step; by default 64, or fewer of little data.",
        minimum=2,
    )
    epoch_steps: int = setting(
        8,
        "Fewest steps of an epoch, which goes over little data more than once.",
        minimum=1,
    )
    epoch_most: int = setting(
        1000,
        "Most steps of an epoch: of much data each goes over another part.",
        minimum=1,
    )
    lr: float = setting(2e-3, "Peak learning rate of the one-cycle schedule.", above=0, maximum=1)
    lr_schedule: str = setting(
        "cycle",
        "How the learning rate goes over the float steps: up and down once, or not at all.",
        choices=("cycle", "constant"),
    )
    qat_lr: float = setting(
        2e-4,
        "Learning rate at which quantization-aware training starts.",
        above=0,
        maximum=1,
    )
    weight_decay: float = setting(0.05, "Decoupled weight decay of AdamW.", minimum=0, maximum=10)
    min_frames: int = setting(
        100,
        "Shortest training crop, frames of 10 ms; each batch draws its own length.",
        minimum=1,
    )
    max_frames: int = setting(220, "Longest training crop, frames of 10 ms.", minimum=1)
    balance: bool = setting(True, "Weigh each class by its rarity.")
    corpus_balance: float = setting(
        0.0,
        "How alike corpora count: 0 by their clips, 1 all the same, 0.5 by the root of their "
        "clips.",
        minimum=0,
        maximum=1,
    )
    label_smoothing: float = setting(
        0.1,
        "Probability mass spread over the other classes.",
        minimum=0,
        below=1,
    )
    mixup: float = setting(
        0.3,
        "Parameter of mixup's Beta distribution on pooled statistics; 0 for none.",
        minimum=0,
        maximum=100,
    )
    gain_db: float = setting(
        4.0,
        "Standard deviation of the random level of a clip, dB.",
        minimum=0,
        maximum=60,
    )
    time_masks: int = setting(
        2,
        "Stretches of a clip that are blanked (SpecAugment).",
        minimum=0,
        maximum=100,
    )
    time_mask_frames: int = setting(20, "Longest of them, frames.", minimum=0)
    feature_masks: int = setting(
        1,
        "Bands of neighbouring coefficients that are blanked.",
        minimum=0,
        maximum=32,
    )
    feature_mask_width: int = setting(5, "Widest of them, coefficients.", minimum=0, maximum=32)
    noise: float = setting(
        0.05,
        "Standard deviation of the noise added to normalized features.",
        minimum=0,
        maximum=10,
    )
    word_dropout: float = setting(
        0.1,
        "Share of words that are read as the unknown word.",
        minimum=0,
        maximum=1,
    )
    punctuation_dropout: float = setting(
        0.0,
        "Share of the texts that lose all their marks, as an ASR returns them; for --punctuation.",
        minimum=0,
        maximum=1,
    )
    asr_noise: str = setting(
        "",
        "Corrupt the words as a recognizer does: what transcribe wrote of speech with known "
        "words, or a word error rate such as 0.24.",
    )
    embedding_lr: float = setting(
        0.5,
        "Learning rate of the word embeddings, relative to the rest; 0 keeps them as they are.",
        minimum=0,
        maximum=10,
    )
    modality_dropout: float = setting(
        0.3,
        "Share of the examples with audio and words that lose one of the two, by turns.",
        minimum=0,
        maximum=1,
    )
    neutral_words: float = setting(
        0.0,
        "With --pair: share of the clips that get words of the class neutral, whatever their own, "
        "for most of what people say tells nothing of how they say it.",
        minimum=0,
        maximum=1,
    )
    ema: float = setting(0.99, "Decay a step of the averaged weights.", minimum=0, below=1)
    clip_norm: float = setting(1.0, "Largest gradient norm.", above=0)
    augment: bool = setting(
        True,
        "Vary speed, colour, room and noise of the training clips' waveforms.",
    )
    device: str = setting(
        "cpu",
        "What trains: auto is a GPU where there is one. Figures here are all of the CPU.",
        choices=("auto", "cpu", "cuda"),
    )
    batch_norm: bool = setting(
        False,
        "Batch normalization behind the audio layers of the float epochs, then folded into their "
        "weights: it costs the device nothing. Not where training goes on from a run.",
    )
    bf16: bool = setting(
        False,
        "Compute the audio layers of the float epochs in bfloat16: 1.5 times as fast where the "
        "processor has it, slower where it has not.",
    )
    seed: int = setting(0, "Seed of everything random.", SEEDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        names_of(self.teacher)
        if self.min_frames > self.max_frames:
            raise SettingError(
                f"min_frames {self.min_frames} is above max_frames {self.max_frames}: crops have a "
                "length between the two"
            )

    def record(self) -> dict[str, Any]:
        """The settings as a run and its bundle keep them: files and folders by their names alone.

        Where they stood is of use to nobody else, and the maker's own business.
        """
        kept = asdict(self)
        for name in ("noises", "rooms", "babble", "nonspeech", "asr_noise"):
            kept[name] = ",".join(Path(part.strip()).name for part in kept[name].split(","))
        return kept

    @property
    def taught_epochs(self) -> int:
        """Epochs that learn from the teacher alone."""
        return self.teacher_epochs if self.teacher else 0

    @property
    def float_epochs(self) -> int:
        """Epochs before quantization-aware training."""
        return self.taught_epochs + self.epochs

    @property
    def all_epochs(self) -> int:
        """Epochs in all."""
        return self.float_epochs + self.qat_epochs
