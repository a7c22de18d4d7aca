"""Words as a recognizer would have returned them: training on text that an engine has corrupted.

What an engine confuses is measured on speech whose words are known, as
`training.speech.transcribe` writes it: jiwer aligns reference and heard words by edit distance, as
for the word error rate. A word that was measured often is corrupted as it was there; the rates of
others are those of all words, drawn towards them by `_PRIOR`, and what they are taken for is a word
that was heard in another's place or, more often, any word of the vocabulary.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jiwer
import torch
from torch import Tensor

from edge_runtime.tokenizer import FIRST_WORD, UNKNOWN, Tokenizer, words
from training.corpora.tables import read_table
from training.errors import TrainingError

_PRIOR = 10.0  # occurrences that the rates of all words count for in those of one
# Of the errors of a recognizer, where only their rate is known: of the 480 words of RAVDESS's 80
# neutral clips pocketsphinx substituted 51, lost 17, and added 2.
_SHARES = (51 / 70, 17 / 70, 2 / 70)


@dataclass
class Confusions:
    """What an engine made of words."""

    right: Counter[str] = field(default_factory=Counter)
    """How often each word was heard as itself."""
    taken_for: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """How often each word was heard as which other."""
    lost: Counter[str] = field(default_factory=Counter)
    """How often each word was not heard."""
    added: Counter[str] = field(default_factory=Counter)
    """Words heard where there was none."""
    error_rate: float = 0.0
    """Word error rate; it can be above 1."""

    @property
    def words(self) -> int:
        """Words that were said."""
        return self.right.total() + self.substitutions + self.lost.total()

    @property
    def substitutions(self) -> int:
        """Words that were heard as others."""
        return sum(heard.total() for heard in self.taken_for.values())


def confusions(pairs: Iterable[tuple[str, str]]) -> Confusions:
    """Count over (reference, heard) texts, aligned with the fewest errors."""
    texts = [(" ".join(words(reference)), " ".join(words(heard))) for reference, heard in pairs]
    if not texts:
        return Confusions()
    aligned = jiwer.process_words([said for said, _ in texts], [heard for _, heard in texts])
    result = Confusions(error_rate=float(aligned.wer))
    for reference, heard, parts in zip(
        aligned.references, aligned.hypotheses, aligned.alignments, strict=True
    ):
        for part in parts:
            said = reference[part.ref_start_idx : part.ref_end_idx]
            found = heard[part.hyp_start_idx : part.hyp_end_idx]
            if part.type == "equal":
                result.right.update(said)
            elif part.type == "substitute":
                for one, other in zip(said, found, strict=True):
                    result.taken_for[one][other] += 1
            else:  # a part of one side alone: words lost, or words added
                result.lost.update(said)
                result.added.update(found)
    return result


def read_confusions(path: Path) -> Confusions:
    """Count over a manifest that `training.speech.transcribe` wrote.

    Raises TrainingError for another file, or where no clip has a reference.
    """
    table = read_table(path, "--asr-noise", ("text", "reference"))
    cells = (row.values for row in table.rows)
    found = confusions((row["reference"], row["text"]) for row in cells if row["reference"])
    if not found.words:
        raise TrainingError(f"--asr-noise {path}: no clip in it has a reference to compare with")
    return found


class AsrNoise:
    """Corrupts tokens as an engine does.

    Parameters
    ----------
    tokenizer : knows the rows of the words.
    vocabulary : words that can be heard in place of one of which nothing is known.
    measured : what an engine confused; or `rate`, a word error rate from 0 to 1, whose parts are
        then those of pocketsphinx (`_SHARES`).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocabulary: Sequence[str],
        measured: Confusions | None = None,
        rate: float = 0.0,
    ) -> None:
        measured = measured or Confusions()
        total = measured.words
        self._rates = torch.tensor(_SHARES) * rate
        if total:
            counts = (measured.substitutions, measured.lost.total(), measured.added.total())
            self._rates = torch.tensor(counts) / total
        self._any = torch.tensor(
            [row for word in vocabulary if (row := tokenizer.row(word)) >= FIRST_WORD]
        )
        self._added = self._rows(tokenizer, measured.added)
        others = sum(measured.taken_for.values(), Counter[str]())
        self._others = self._rows(tokenizer, others)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}
        for word in {*measured.right, *measured.taken_for, *measured.lost}:
            self._learn(tokenizer, measured, word)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Tokens int64 (words,), or (fewer or more,), drawn anew at each call by torch's seed.

        Never longer than before by more than the words that were added, and never empty: a text
        that would lose all its words keeps them.
        """
        result: list[int] = []
        for token in tokens.tolist():
            rates, heard = self._known.get(token, (self._rates[:2], self._others))
            draw = float(torch.rand(()))
            if draw < rates[0]:
                result.append(self._draw(heard))
            elif draw >= rates[0] + rates[1]:
                result.append(token)
            if float(torch.rand(())) < self._rates[2]:
                result.append(self._draw(self._added))
        return torch.tensor(result, dtype=torch.int64) if result else tokens

    def _learn(self, tokenizer: Tokenizer, measured: Confusions, word: str) -> None:
        row = tokenizer.row(word)
        if row == UNKNOWN:
            return
        heard = measured.taken_for.get(word, Counter())
        counts = torch.tensor([float(heard.total()), float(measured.lost[word])])
        n = measured.right[word] + float(counts.sum())
        rates = (counts + _PRIOR * self._rates[:2]) / (n + _PRIOR)
        self._known[row] = rates, self._rows(tokenizer, heard)

    def _rows(self, tokenizer: Tokenizer, heard: Counter[str]) -> Tensor:
        """Rows to draw from, each as often as it was heard."""
        return torch.tensor([tokenizer.row(w) for w in heard.elements()], dtype=torch.int64)

    def _draw(self, heard: Tensor) -> int:
        """One of `heard`, or of any word, the more so the less was heard."""
        known = len(heard) / (len(heard) + _PRIOR)
        pool = heard if float(torch.rand(())) < known or not len(self._any) else self._any
        return int(pool[torch.randint(len(pool), ())]) if len(pool) else UNKNOWN


def open_noise(name: str, tokenizer: Tokenizer, vocabulary: Sequence[str]) -> AsrNoise | None:
    """What `--asr-noise` asks for: a file of `transcribe`, a word error rate, or "" for none.

    TrainingError for neither.
    """
    if not name:
        return None
    try:
        rate = float(name)
    except ValueError:
        return AsrNoise(tokenizer, vocabulary, read_confusions(Path(name)))
    if not 0 <= rate < 1:
        raise TrainingError(f"--asr-noise {name}: a word error rate is from 0 to below 1")
    return AsrNoise(tokenizer, vocabulary, rate=rate)
