"""A language of one's own: folders with an acoustic model, a dictionary, a list, a grammar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import TextError
from edge_runtime.pcm import Int16
from edge_runtime.text.engines import check_source, source_named
from edge_runtime.text.supervisor import _cheaper

pocketsphinx = pytest.importorskip("pocketsphinx")

# German for what RAVDESS's children do, in the phones of the model that comes with the package.
WORDS = {"Kinder": "K IH D Z", "tür": "D AO R", "hilfe": "HH IH L F AH", "reden": "T AO K IH NG"}
WORDS |= {"sind": "AA R", "bei": "B AY", "der": "DH AH"}
UNIGRAMS = """\\data\\
ngram 1=9

\\1-grams:
-0.8 <s>
-0.8 </s>
-0.8 kinder
-0.8 tür
-0.8 reden
-0.8 hilfe
-0.8 sind
-0.8 bei
-0.8 der

\\end\\
"""


def model_folder(folder: Path, words: dict[str, str]) -> Path:
    """The acoustic model of the package, with another dictionary."""
    source = Path(pocketsphinx.get_model_path("en-us/en-us"))
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    lines = "".join(f"{word} {phones}\n" for word, phones in words.items())
    (folder / "german.dict").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """A language in a folder, with a list."""
    folder = model_folder(tmp_path / "german", WORDS)
    (folder / "keywords.txt").write_text("kinder\ntür\t1e-5\nhilfe\n", encoding="utf-8")
    return folder


def heard(name: str, samples: Int16, keywords: Path | None = None) -> str:
    engine = source_named(name, keywords)
    engine.begin(0.0)
    engine.feed(samples)
    text = engine.end().text
    engine.close()
    return text


def test_phrases_of_another_language_are_spotted(kids: Int16, german: Path) -> None:
    assert heard(f"keywords:{german}", kids) == "kinder tür"
    silence = np.zeros(16_000, np.int16)
    assert heard(f"keywords:{german}", silence) == ""


def test_the_bundle_s_list_is_spotted_where_the_folder_has_none(
    kids: Int16, german: Path, tmp_path: Path
) -> None:
    (german / "keywords.txt").unlink()
    listed = tmp_path / "own.txt"
    listed.write_text("reden\n", encoding="utf-8")
    assert heard(f"keywords:{german}", kids, listed) == "reden"
    with pytest.raises(TextError, match=r"there is no file .*german/keywords\.txt"):
        check_source(f"keywords:{german}")


def test_every_word_of_another_language_is_heard(kids: Int16, german: Path) -> None:
    with pytest.raises(TextError, match=r"needs one language model \(\*.lm.bin or \*.lm\)"):
        check_source(f"asr:{german}")
    (german / "german.lm").write_text(UNIGRAMS, encoding="utf-8")
    assert heard(f"asr:{german}", kids).endswith("reden bei der tür")


def test_no_english_list_takes_over_from_another_language(german: Path, tmp_path: Path) -> None:
    english = tmp_path / "english.txt"
    assert _cheaper(f"asr:{german}", english) == f"keywords:{german}"
    (german / "keywords.txt").unlink()
    assert _cheaper(f"asr:{german}", english) == ""
    assert _cheaper("asr", english) == "keywords"
    assert _cheaper("asr", None) == ""
    assert _cheaper(f"keywords:{german}", english) == ""


def without_mdef(folder: Path) -> None:
    (folder / "mdef").unlink()


def without_dictionary(folder: Path) -> None:
    (folder / "german.dict").unlink()


def with_two(folder: Path) -> None:
    (folder / "more.dic").write_text("nein N AY N\n")


def with_foreign_phones(folder: Path) -> None:
    (folder / "german.dict").write_text("tür D AO R\nach AH X\nhöhle HH Ö L\n", encoding="utf-8")


def for_telephones(folder: Path) -> None:
    path = folder / "feat.params"
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace("-upperf 6800", "-upperf 3500") + "-samprate 8000\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_mdef, "german holds no acoustic model of pocketsphinx: it lacks mdef$"),
        (without_dictionary, r"needs one dictionary \(\*.dict or \*.dic\) and has none"),
        (with_two, r"has german\.dict, more\.dic; keep one"),
        (
            with_foreign_phones,
            r"'ach' \(line 2\), 'höhle' \(line 3\) cannot be spoken: .*has no phone X, Ö$",
        ),
        (for_telephones, "is for 8000 Hz, not 16000 Hz"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    german: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(german)
    with pytest.raises(TextError, match=message) as caught:
        source_named(f"keywords:{german}")
    assert "\n" not in str(caught.value)
