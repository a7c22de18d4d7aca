"""What is spoken around a phrase, and without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

CARRIERS = (
    "{}",
    "well {}",
    "and then she said {} and went home",
    "{} is what i heard",
    "i told them {} but nobody came",
    "listen {} for the last time",
)
"""English sentences with a place for a phrase; the first is the phrase alone."""
PLAIN = (
    "the train to the airport leaves at a quarter past nine",
    "could you bring two cups of tea and some bread",
    "my brother lives in a small house near the river",
    "it rained all morning and the garden is full of water",
    "we should paint the kitchen before the summer comes",
    "the doctor will see you in about ten minutes",
    "she wrote a long letter to her old teacher",
    "turn left at the second light and park behind the school",
    "the children were playing football in the street",
    "i have not seen that film but my sister liked it",
    "there are three bottles of milk in the fridge",
    "he works at night and sleeps most of the day",
    "the meeting was moved to thursday afternoon",
    "please close the window because it is getting cold",
    "they bought a new car and sold the bicycle",
    "what time does the market open on saturday",
    "the book on the table belongs to my neighbour",
    "you can find the answer on the last page",
    "our dog barks whenever somebody walks past the gate",
    "i would like to change some money at the bank",
    "the soup needs a little more salt and pepper",
    "her grandmother was born in a village in the mountains",
    "the computer is slow today and the printer is out of paper",
    "nobody knows why the shop was closed last week",
    "a friend of mine teaches music to young people",
    "put the heavy boxes under the stairs for now",
    "the weather forecast says wind from the north tomorrow",
    "he forgot his umbrella on the bus again",
    "the museum is free on the first sunday of the month",
    "we walked along the beach until the sun went down",
)
"""Everyday English without anything in it."""
_WORDS = (4, 8)  # of a sentence that is drawn from a dictionary


def fillers(
    number: int, dictionary: Mapping[str, str], rng: np.random.Generator, plain: Sequence[str]
) -> list[str]:
    """Sentences that hold no phrase but by chance, so many.

    Half of them are of `plain`, in turn, as far as there are any; the others are words drawn from
    the dictionary, so that every sound stands beside every other.
    """
    listed = [plain[i % len(plain)] for i in range(number // 2)] if plain else []
    known = [word for word in dictionary if word.isalpha() and len(word) > 1]
    if not known:
        return listed
    drawn = [
        " ".join(rng.choice(known, int(rng.integers(_WORDS[0], _WORDS[1] + 1))).tolist())
        for _ in range(number - len(listed))
    ]
    return [*listed, *drawn]
