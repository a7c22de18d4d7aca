"""The model card: front matter that hubs read, and every fact and warning in its text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from conversion.card import model_card
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import Calibration, Manifest
from training.corpora import corpus_names, languages_of, licence_of
from training.corpora.licences import asks_of


def front(card: str) -> dict[str, Any]:
    """The YAML before the text, by somebody else's reader."""
    opening, matter, text = card.split("---\n", 2)
    assert not opening
    assert text.startswith("\n# ")
    found = yaml.safe_load(matter)
    assert isinstance(found, dict)
    return found


def of_corpora(manifest: Manifest, corpora: dict[str, tuple[str, str]]) -> Manifest:
    """The manifest of a model of these corpora alone: licence and citation of each."""
    described = {
        name: {"clips": 1, "speakers": None, "hours": 0.5, "licence": terms, "citation": source}
        for name, (terms, source) in corpora.items()
    }
    return replace(manifest, training={"corpora": described})


def test_a_hub_reads_what_the_model_is_and_learned_from(bundle: Bundle) -> None:
    found = front(model_card(bundle.manifest))
    assert found["license"] == "other"  # several: the text has them
    assert found["license_name"]
    assert found["language"] == ["am", "de", "en", "hi", "it", "ko", "pl"]
    assert found["pipeline_tag"] == "audio-classification"
    assert {"speech-emotion-recognition", "int8", "tflite"} <= {*found["tags"]}
    assert set(found["datasets"]) == {
        *("ravdess", "emodb", "nemo", "ased", "emovo", "koemo", "emospeech", "librispeech"),
        "goemotions",
    }
    assert found["metrics"] == ["recall", "accuracy"]


def test_a_hub_reads_the_figures_of_the_form_that_ships(bundle: Bundle) -> None:
    manifest = bundle.manifest
    (index,) = front(model_card(manifest))["model-index"]
    assert index["name"] == manifest.name
    expected = [
        (corpus, modality, forms["int8"])
        for corpus, modalities in manifest.metrics["corpora"].items()
        for modality, forms in modalities.items()
    ]
    assert len(index["results"]) == len(expected) > 0
    for result, (corpus, modality, values) in zip(index["results"], expected, strict=True):
        kind = "text" if modality == "text" else "audio"
        assert result["task"]["type"] == f"{kind}-classification"
        assert result["dataset"] == {"type": corpus, "name": corpus}
        assert [m["value"] for m in result["metrics"]] == [values["ua"], values["wa"]]
        spoken = corpus != "goemotions" and modality != "audio"
        for metric in result["metrics"]:
            assert f"from {modality}" in metric["name"]
            assert ("nobody spoke them" in metric["name"]) == spoken


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (("CC BY-NC-SA 4.0",), "cc-by-nc-sa-4.0"),
        (("GPL-3.0", "GPL-3.0"), "gpl-3.0"),
        (("GPL-3.0", "Apache-2.0"), "other"),
        (("GPL-3.0", ""), "other"),
        (("free to use",), "other"),
        ((), "other"),
    ],
)
def test_one_licence_has_its_name(bundle: Bundle, terms: tuple[str, ...], expected: str) -> None:
    corpora = {f"c{number}": (text, "") for number, text in enumerate(terms)}
    found = front(model_card(of_corpora(bundle.manifest, corpora)))
    assert found["license"] == expected
    assert ("license_name" in found) == (expected == "other")


def test_a_card_says_what_its_corpora_ask_together(bundle: Bundle) -> None:
    card = model_card(
        of_corpora(
            bundle.manifest,
            # What an earlier version called the terms; what is known of them today is told.
            {"emodb": ("free to use", "y"), "goemotions": ("Apache-2.0", "z")},
        )
    )
    assert "| 0.50 | no formal licence; free to use | attribution, the rest not in wr" in card
    assert "**Attribution**. The weights may be used for anything, commerce as well" in card
    assert "**Without a formal licence: emodb**" in card
    assert "encoders that taught it" not in card
    assert "were put around clips" not in card


def test_a_corpus_of_one_s_own_is_no_dataset_and_any_name_is_yaml(bundle: Bundle) -> None:
    manifest = replace(
        of_corpora(bundle.manifest, {"emodb@2": ("x", "y"), "manifest": ("", "")}),
        name='a: "b" #c\u00e9',
        metrics={},
    )
    card = model_card(manifest)
    found = front(card)
    assert found["datasets"] == ["emodb"]
    assert found["language"] == ["de"]
    assert "model-index" not in found  # nothing was measured
    assert "Not measured: this run held no clip out." in card
    assert "| manifest | 1 | unknown | 0.50 | see its owner | not known here | - |" in card
    assert "**Under terms that are not known here: manifest**" in card


def test_a_name_cannot_break_the_front_matter(bundle: Bundle) -> None:
    name = 'a: "b" #c\n---\n\u00e9'
    (index,) = front(model_card(replace(bundle.manifest, name=name)))["model-index"]
    assert index["name"] == name


def test_float_graphs_are_not_called_int8(small: Bundle) -> None:
    manifest = small.manifest
    graphs = {
        role: replace(
            graph,
            file=f"{role}.onnx",
            inputs=tuple(replace(t, dtype="float32") for t in graph.inputs),
        )
        for role, graph in manifest.graphs.items()
    }
    card = model_card(replace(manifest, graphs=graphs, form=""))
    assert {"float", "onnx"} <= {*front(card)["tags"]}
    assert "full int8" not in card
    first = next(iter(manifest.metrics["corpora"]))
    measured = manifest.metrics["corpora"][first]["audio"]["float"]
    assert front(card)["model-index"][0]["results"][0]["metrics"][0]["value"] == measured["ua"]


def test_the_text_has_every_figure_and_warning(bundle: Bundle) -> None:
    training = {**bundle.manifest.training, "start": {"epochs": 7}}
    manifest = replace(
        bundle.manifest,
        training=training,
        calibration={"audio": Calibration(0.7441, 0.0), "text": Calibration(0.75, 0.41)},
        metrics={**bundle.manifest.metrics, "calibration_error": {"audio": 0.0}},
    )
    card = model_card(manifest)
    text = " ".join(card.split())
    for corpus, described in training["corpora"].items():
        speakers = "unknown" if described["speakers"] is None else described["speakers"]
        assert f"| {corpus} | {described['clips']} | {speakers} |" in card
        asked = ", ".join(asks_of(licence_of(corpus)))
        assert f"| {licence_of(corpus)} | {asked} | {described['citation']} |" in card
    assert "| goemotions | 25709 | unknown | text only |" in card
    figures, unseen = manifest.metrics["corpora"], manifest.metrics["unseen"]
    measured = [forms for f in (figures, unseen["corpora"]) for forms in f.values()]
    rows = sum(len(forms) for found in measured for forms in found.values())
    assert sum(
        line.startswith(tuple(f"| {c} | " for c in figures)) for line in card.splitlines()
    ) == rows + len(training["corpora"])
    # The first is that of the folds by speaker, the last of corpora that did not train.
    for found, protocol in ((figures, manifest.metrics["protocol"]), (unseen["corpora"], "")):
        values = found["emodb"]["audio"]["int8"]
        lower, upper = (100 * end for end in values["ua_interval"])
        ua = f"{100 * values['ua']:.1f} [{lower:.1f}, {upper:.1f}]"
        assert f"| emodb | audio | int8 | 266 | {ua} |" in card
        assert protocol in card
    assert unseen["protocol"] in card
    values = figures["goemotions"]["text"]["int8"]
    assert f"| goemotions | text | int8 | {values['n']} | {100 * values['ua']:.1f} [" in card
    assert "| emodb | audio+text * | int8 | 266 |" in card
    assert f"\\* rests on {training['pairing']}." in card
    assert "| audio | 0.744 | 0.00 | 0.0 % |" in card
    assert "| text | 0.750 | 0.41 | not measured |" in card
    assert manifest.metrics["protocol"] in card
    for told in (
        "**Attribution, no commercial use, research only, share alike**. The weights may be used "
        "for research that is not commercial",
        "**Without a formal licence: emodb and ased**",
        "Resemblyzer's speaker encoder, Apache-2.0; the encoder of Whisper-tiny, MIT",
        "of the folders esc10, speech_commands, rooms, librispeech, tones were put around clips",
        "`keywords.txt` says what its key phrases were learned from",
        "int8: the quantization-aware weights in the converted bundle",
        "In brackets, the 95 % interval of UA",
        "where a wrong verdict does no harm",
        "Do not use it to judge, select or monitor people",
        "prohibited by the AI Act (Article 5)",
        "Utterances under half a second",
        "expect less",
        "audio kernels 5, 7, 9, 11, text kernels 2, 3, 4, 5 of 96 filters each, an audio map every "
        "30 ms. Settings: noises esc10,speech_commands, rooms rooms, babble librispeech",
        "The audio branch was trained alone and kept: noises esc10,speech_commands, rooms rooms",
        "teacher resemblyzer,whisper, teacher_epochs 14",
        "Training went on from a run with: epochs 7.",
    ):
        assert told in text, told
    for tool, version in manifest.versions.items():
        assert f"{tool} {version}" in card


def test_every_corpus_says_its_languages() -> None:
    for name in corpus_names():
        assert all(len(code) == 2 for code in languages_of(name))
        assert bool(languages_of(name)) == (name != "manifest"), name
    assert languages_of("esd@mine") == ("en", "zh")
    assert languages_of("elsewhere") == ()
