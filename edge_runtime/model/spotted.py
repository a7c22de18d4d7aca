"""Phrases of the user's own in what was said, and what they tell about the classes.

Each phrase of the bundle's list that is heard adds its log-odds to the log probabilities of the
sound, as one witness more who knows nothing of the others (a product of experts, Hinton 2002, doi
10.1162/089976602760128018). All together they change the odds between two classes by no more than
the manifest's limit: what phrases tell was estimated, not measured on people.
"""

from __future__ import annotations

import math

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError, TextError
from edge_runtime.manifest import KEYWORDS
from edge_runtime.pcm import Float32
from edge_runtime.text.phrases import parse_keywords
from edge_runtime.tokenizer import words


class Spotted:
    """Phrases with what each tells.

    Parameters
    ----------
    weights : of each phrase, words with single spaces, the log-odds of each class, (classes,).
    limit : natural logarithm by which the odds between two classes change at most, above 0.
    """

    def __init__(self, weights: dict[str, Float32], limit: float) -> None:
        self._weights = {tuple(text.split()): row for text, row in weights.items()}
        self._longest = max(map(len, self._weights))
        self._limit = limit

    @classmethod
    def of(cls, bundle: Bundle) -> Spotted | None:
        """Those of a bundle; None where they do not count. BundleError for a list that cannot."""
        part, labels = bundle.manifest.phrases, bundle.manifest.labels
        if part is None or not part.limit:
            return None
        try:
            listed = parse_keywords(bundle.contents[KEYWORDS], part.keywords.file)
        except TextError as error:
            raise BundleError(f"bundle {bundle.source}: {error}") from None
        for phrase in listed:
            if set(phrase.weights) != set(labels) or not all(
                map(math.isfinite, phrase.weights.values())
            ):
                raise BundleError(
                    f"bundle {bundle.source}: {part.keywords.file} does not say what "
                    f"{phrase.text!r} tells about each of {', '.join(labels)}"
                )
        rows = {p.text: np.array([p.weights[c] for c in labels], np.float32) for p in listed}
        return cls(rows, part.limit)

    def evidence(self, text: str) -> list[float] | None:
        """What the phrases in `text` add to log probabilities, (classes,); None without any.

        A phrase counts once, however often it is said, and within a longer one that is listed, too,
        not at all.
        """
        said, found, place = words(text), set(), 0
        while place < len(said):
            for length in range(min(self._longest, len(said) - place), 0, -1):
                gram = tuple(said[place : place + length])
                if gram in self._weights:
                    found.add(gram)
                    place += length
                    break
            else:
                place += 1
        if not found:
            return None
        total = np.sum([self._weights[gram] for gram in sorted(found)], axis=0)
        spread = float(np.ptp(total))
        if spread > self._limit:
            total *= self._limit / spread
        return [float(value) for value in total]
