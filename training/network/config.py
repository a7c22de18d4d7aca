"""The shape of the network: variants and their sizes; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.branches import branch_widths, query_count

STATISTICS = ("max", "mean", "std")

SWEM = ("max", "mean")

AUDIO, TEXT, SPEAKER = MODALITIES = ("audio", "text", "speaker")

DEEP_KERNEL = 3  # steps that a further audio layer sees

_BASES = ("audio", "text", "audio+text", "audio+text+att")

_RESIDUALS = ("swem", "speaker")


@dataclass(frozen=True)
class Variant:
    """What a model consists of; `parse` reads its name."""

    audio: bool
    """Audio MSCNN and SPU."""
    text: bool
    """Text MSCNN and SPU."""
    att: bool
    """Attention of the audio statistics over the words."""
    swem: bool
    """Max and mean of the word embeddings join the head."""
    speaker: bool
    """A speaker embedding joins the head."""

    @classmethod
    def parse(cls, name: str) -> Variant:
        """A base of `_BASES`, then any of `+swem` and `+speaker`; ValueError for anything else."""
        base, residuals = name, []
        while (parts := base.rpartition("+"))[2] in _RESIDUALS:
            base = parts[0]
            residuals.append(parts[2])
        variant = cls(
            audio="audio" in base,
            text="text" in base,
            att="att" in base,
            swem="swem" in residuals,
            speaker="speaker" in residuals,
        )
        if base not in _BASES or len(set(residuals)) < len(residuals):
            raise ValueError(
                f"{name!r} is not a model variant: expected one of {', '.join(_BASES)}, "
                "then +swem, +speaker or both"
            )
        if variant.swem and not variant.text:
            raise ValueError(f"variant {name!r}: swem needs text")
        return variant


def variants() -> list[str]:
    """The name of every variant there is."""
    return [
        base + swem + speaker
        for base in _BASES
        for swem in ("", "+swem")
        for speaker in ("", "+speaker")
        if not swem or "text" in base
    ]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shape of a model."""

    labels: tuple[str, ...] = ("angry", "happy", "neutral", "sad")
    """Classes, in the order of the logits."""
    variant: str = "audio"
    """audio, text, audio+text or audio+text+att; then +swem, +speaker or both."""
    features: int = 96
    """Width of an audio frame."""
    audio_kernels: tuple[int, ...] = (5, 7, 9, 11)
    """Kernel lengths of the audio MSCNN, in frames; odd."""
    audio_stride: int = 1
    """Frames from one audio map to the next."""
    audio_dilations: tuple[int, ...] = ()
    """Dilation of each audio layer behind the first, in maps."""
    filters: int = 128
    """Filters per kernel length, audio and text alike."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the dense layers before the class layer."""
    dropout: float = 0.3
    """Dropout before each dense layer."""
    text_kernels: tuple[int, ...] = (2, 3, 4, 5)
    """Kernel lengths of the text MSCNN, in words."""
    vocabulary: int = 2
    """Rows of the embedding table: padding, unknown word, then the words."""
    embedding: int = 50
    """Width of a word embedding."""
    tokens: int = 128
    """Words of an utterance that are read; the rest is cut."""
    punctuation: bool = False
    """Whether marks are words; the paper's text, and an ASR's, has none."""
    speaker: int = 512
    """Width of the speaker embedding; 512 for Kaldi x-vectors."""
    attention_pairs: str = "all"
    """Scale pairs that attention joins: all, or matched (first with first, and so on)."""
    attention_scale: float = 0.0
    """Factor of the attention scores; 0 for 1 / sqrt(filters), 1 for the paper's plain product."""

    def __post_init__(self) -> None:
        Variant.parse(self.variant)
        if self.attention_pairs not in ("all", "matched"):
            raise ValueError(f"attention_pairs {self.attention_pairs!r} is not all or matched")
        if self.attention_pairs == "matched" and len(self.audio_kernels) != len(self.text_kernels):
            raise ValueError("matched attention needs as many text kernels as audio kernels")
        if self.audio_stride < 1 or any(dilation < 1 for dilation in self.audio_dilations):
            raise ValueError(
                "stride and dilations are whole numbers from 1 on, not "
                f"{self.audio_stride} and {', '.join(map(str, self.audio_dilations)) or 'none'}"
            )

    @property
    def parts(self) -> Variant:
        """The variant, parsed."""
        return Variant.parse(self.variant)

    @property
    def audio_statistics(self) -> int:
        """Width of the audio SPU output: scales x statistics x filters."""
        return len(self.audio_kernels) * len(STATISTICS) * self.filters

    @property
    def audio_context(self) -> int:
        """Frames before and after a map's own frame that it depends on."""
        deep = sum(dilation * (DEEP_KERNEL // 2) for dilation in self.audio_dilations)
        return max(self.audio_kernels) // 2 + self.audio_stride * deep

    @property
    def queries(self) -> int:
        """Audio vectors that attend to each text scale."""
        return query_count(len(self.audio_kernels), self.attention_pairs)

    @property
    def branches(self) -> dict[str, int]:
        """What the head reads, in order: name to width."""
        parts = self.parts
        return branch_widths(
            filters=self.filters,
            audio_scales=len(self.audio_kernels) if parts.audio else 0,
            text_scales=len(self.text_kernels) if parts.text else 0,
            queries=self.queries if parts.att else 0,
            embedding=self.embedding if parts.swem else 0,
            speaker=self.speaker if parts.speaker else 0,
        )
