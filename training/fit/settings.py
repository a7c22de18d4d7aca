"""The schedule of training, as options; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FitSettings:
    """How a model is trained."""

    teacher: bool = False
    """Let a speaker encoder (pip install --no-deps Resemblyzer) teach the audio maps."""
    teacher_epochs: int = 50
    """With a teacher: epochs that learn from it alone, before the others."""
    teacher_lr: float = 2e-3
    """With a teacher: peak learning rate of those epochs."""
    teacher_weight: float = 0.5
    """With a teacher: weight of its loss in the epochs after those."""
    epochs: int = 50
    """Float epochs."""
    qat_epochs: int = 8
    """Quantization-aware epochs after them."""
    batch: int | None = None
    """Clips per step; by default 64, or fewer of little data."""
    epoch_steps: int = 8
    """Fewest steps of an epoch, which goes over little data more than once."""
    lr: float = 2e-3
    """Peak learning rate of the one-cycle schedule."""
    lr_schedule: str = field(default="cycle", metadata={"choices": ("cycle", "constant")})
    """How the learning rate goes over the float steps: up and down once, or not at all."""
    qat_lr: float = 2e-4
    """Learning rate at which quantization-aware training starts."""
    weight_decay: float = 0.05
    """Decoupled weight decay of AdamW."""
    min_frames: int = 100
    """Shortest training crop, frames of 10 ms; each batch draws its own length."""
    max_frames: int = 220
    """Longest training crop, frames of 10 ms."""
    balance: bool = True
    """Weigh each class by its rarity."""
    label_smoothing: float = 0.1
    """Probability mass spread over the other classes."""
    mixup: float = 0.3
    """Parameter of mixup's Beta distribution on pooled statistics; 0 for none."""
    gain_db: float = 4.0
    """Standard deviation of the random level of a clip, dB."""
    time_masks: int = 2
    """Stretches of a clip that are blanked (SpecAugment)."""
    time_mask_frames: int = 20
    """Longest of them, frames."""
    feature_masks: int = 1
    """Bands of neighbouring coefficients that are blanked."""
    feature_mask_width: int = 5
    """Widest of them, coefficients."""
    noise: float = 0.05
    """Standard deviation of the noise added to normalized features."""
    word_dropout: float = 0.1
    """Share of words that are read as the unknown word."""
    punctuation_dropout: float = 0.0
    """Share of the texts that lose all their marks, as an ASR returns them; for --punctuation."""
    asr_noise: str = ""
    """Corrupt the words as a recognizer does: what transcribe wrote of speech with known words, or
    a word error rate such as 0.24."""
    embedding_lr: float = 0.5
    """Learning rate of the word embeddings, relative to the rest; 0 keeps them as they are."""
    modality_dropout: float = 0.3
    """Share of the examples with audio and words that lose one of the two, by turns."""
    ema: float = 0.99
    """Decay a step of the averaged weights."""
    clip_norm: float = 1.0
    """Largest gradient norm."""
    augment: bool = True
    """Vary speed, colour, room and noise of the training clips' waveforms."""
    device: str = field(default="cpu", metadata={"choices": ("auto", "cpu", "cuda")})
    """What trains: auto is a GPU where there is one. Figures here are all of the CPU."""
    seed: int = 0
    """Seed of everything random."""

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
