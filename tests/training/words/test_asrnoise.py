"""Words as a recognizer would have returned them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from edge_runtime.tokenizer import FIRST_WORD, Tokenizer
from training.data.tokens import collate_text
from training.errors import TrainingError
from training.speech.transcribe import COLUMNS
from training.words.asrnoise import AsrNoise, confusions, open_noise, read_confusions

WORDS = ["kids", "kit", "are", "talking", "taking", "by", "the", "door", "dogs", "a", "happy"]
TOKENIZER = Tokenizer(WORDS)
PAIRS = [
    ("Kids are talking by the door.", "kit are talking by the door"),
    ("Kids are talking by the door.", "kids are taking by the door a"),
    ("Kids are talking by the door.", "kids are talking the door"),
] * 50  # so that what is measured outweighs what is assumed


def tokens(text: str) -> torch.Tensor:
    return torch.from_numpy(TOKENIZER.encode(text).ids)


def text(rows: torch.Tensor) -> str:
    return " ".join(WORDS[row - FIRST_WORD] for row in rows.tolist())


def test_words_are_aligned_with_the_fewest_errors() -> None:
    found = confusions([("a b c d", "a x b c"), ("", "e"), ("f", ""), ("", "")])
    assert found.right == Counter("abc")
    assert found.added == Counter("xe")
    assert found.lost == Counter("df")
    assert found.substitutions == 0
    assert found.error_rate == pytest.approx(4 / 5)
    assert confusions([]).words == 0


def test_what_is_measured_is_counted_once() -> None:
    found = confusions(PAIRS)
    assert found.words == 900
    assert found.taken_for["kids"] == Counter(kit=50)
    assert found.taken_for["talking"] == Counter(taking=50)
    assert found.lost == Counter(by=50)
    assert found.added == Counter(a=50)
    assert found.right["door"] == 150
    assert found.error_rate == pytest.approx(200 / 900)


def test_corrupted_text_has_the_errors_that_were_measured() -> None:
    torch.manual_seed(0)
    noise = AsrNoise(TOKENIZER, WORDS, confusions(PAIRS))
    said = "kids are talking by the door"
    again = confusions((said, text(noise(tokens(said)))) for _ in range(1500))
    # 9,000 words: three standard errors of a rate of a fifth are 0.013; the prior moves it as well.
    assert again.error_rate == pytest.approx(200 / 900, abs=0.04)
    assert again.taken_for["kids"].most_common(1)[0][0] == "kit"
    assert again.taken_for["kids"].total() == pytest.approx(500, abs=90)
    assert again.taken_for["kids"]["kit"] > 0.7 * again.taken_for["kids"].total()
    # A word lost beside one that was added, or changed, may be aligned with that.
    assert 1500 - again.right["by"] == pytest.approx(500, abs=90)
    assert again.lost["by"] > 150
    assert again.right["door"] > 0.9 * 1500


@pytest.mark.parametrize("rate", [0.0, 0.24])
def test_a_rate_alone_makes_so_many_errors_in_any_word(rate: float) -> None:
    torch.manual_seed(0)
    noise = open_noise(str(rate), TOKENIZER, WORDS)
    assert noise is not None
    said = "kids are talking by the door happy dogs"
    again = confusions((said, text(noise(tokens(said)))) for _ in range(1000))
    # One error in eleven of those drawn puts the same word there, or is aligned with another.
    assert again.error_rate == pytest.approx(rate, abs=0.035)
    assert (again.error_rate == 0) == (rate == 0)


def test_the_seed_decides_and_a_text_never_becomes_empty() -> None:
    noise = open_noise("0.9", TOKENIZER, WORDS)
    assert noise is not None

    def draw() -> list[list[int]]:
        torch.manual_seed(3)
        return [noise(tokens("happy")).tolist() for _ in range(200)]

    assert draw() == draw()
    assert all(draw())
    assert len({tuple(d) for d in draw()}) > 3


def test_batches_are_corrupted_before_they_are_padded() -> None:
    items = [(tokens("kids are talking"), 0, 0), (tokens(""), 1, 0)]
    batch = collate_text(items, noise=lambda rows: rows.repeat(2))
    assert batch.words is not None
    assert batch.tokens is not None
    assert batch.words.tolist() == [6, 0]
    assert batch.tokens.shape == (2, 6)


def test_confusions_are_read_from_a_transcript(tmp_path: Path) -> None:
    path = tmp_path / "transcripts.csv"
    rows = [dict.fromkeys(COLUMNS, "") | {"reference": r, "text": h} for r, h in PAIRS[:3]]
    rows.append(dict.fromkeys(COLUMNS, "") | {"text": "no reference"})
    lines = [",".join(row[column] for column in COLUMNS) for row in rows]
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    assert read_confusions(path).words == 18
    assert open_noise(str(path), TOKENIZER, WORDS) is not None


def test_what_is_no_noise_is_one_line(tmp_path: Path) -> None:
    assert open_noise("", TOKENIZER, WORDS) is None
    with pytest.raises(TrainingError, match="from 0 to below 1"):
        open_noise("1.5", TOKENIZER, WORDS)
    with pytest.raises(TrainingError, match="cannot be read"):
        open_noise(str(tmp_path / "absent.csv"), TOKENIZER, WORDS)
    other = tmp_path / "other.csv"
    other.write_text("path,label\na.wav,sad\n")
    with pytest.raises(TrainingError, match="no column text or reference"):
        open_noise(str(other), TOKENIZER, WORDS)
    other.write_text("text,reference\nhello,\n")
    with pytest.raises(TrainingError, match="no clip in it has a reference"):
        open_noise(str(other), TOKENIZER, WORDS)
