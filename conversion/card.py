"""The model card: what a bundle is for, what it learned from, how good it is, where it fails.

Its front matter is what model hubs read (https://huggingface.co/docs/hub/model-cards); the text is
in `templates/card.md.jinja`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader

from edge_runtime.manifest import AUDIO, TEXT, Manifest
from training.corpora import kind_of, languages_of, licence_of
from training.corpora.licences import asks_of, teachers_terms, together
from training.evaluate.metrics import INTERVAL, ua_text
from training.run import forms_of

_TEMPLATE = "card.md.jinja"
_ARITHMETIC = {"int8": "full int8", "float16": "float16", "float": "float32"}
# Names by which hubs know licences, of those that corpora have. More than one, or another, is
# "other", and the text says what it is.
_LICENCES = ("apache-2.0", "cc-by-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0")


def model_card(manifest: Manifest) -> str:
    """Markdown text of MODEL_CARD.md with YAML front matter, made from the manifest alone.

    The front matter's figures are shares, 0 to 1, of the form that the bundle has: int8 or float.
    Its `datasets` are the corpora that were published, by the names they have here.
    """
    environment = Environment(
        loader=PackageLoader("conversion"),
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = _quoted
    corpora = manifest.training.get("corpora", {})
    licences = {name: licence_of(name) or c["licence"] for name, c in corpora.items()}
    form = _form(manifest)
    return environment.get_template(_TEMPLATE).render(
        manifest=manifest,
        training=manifest.training,
        metrics=manifest.metrics,
        corpora=corpora,
        form=form,
        arithmetic=_ARITHMETIC.get(manifest.form or form, form),
        license=_licence(licences),
        licences=licences,
        together=together(licences),
        teachers=teachers_terms(_named(manifest.training, ("teacher",))),
        around=_named(manifest.training, ("noises", "rooms", "babble", "nonspeech")),
        languages=sorted({code for name in corpora for code in languages_of(name)}),
        task=_task(manifest.modalities[0]),
        tags=[
            "speech-emotion-recognition",
            "emotion-recognition",
            "edge",
            form,
            *_formats(manifest),
        ],
        datasets=list(dict.fromkeys(kind_of(n) for n, c in corpora.items() if c["citation"])),
        results=_results(manifest, form),
        ua_text=ua_text,
        forms_of=forms_of,
        asks_of=asks_of,
        AUDIO=AUDIO,
        INTERVAL=INTERVAL,
    )


def _quoted(value: object) -> str:
    """A YAML scalar: every JSON string is one."""
    return json.dumps(str(value), ensure_ascii=False)


def _form(manifest: Manifest) -> str:
    """The form of `training.run.FORM_TEXTS` that the bundle's graphs have, or are closest to."""
    if manifest.form:
        return "int8" if manifest.form == "int8" else "float"
    kinds = {t.dtype for g in manifest.graphs.values() for t in (*g.inputs, *g.outputs)}
    return "float" if "float32" in kinds else "int8"


def _formats(manifest: Manifest) -> list[str]:
    """File formats of the graphs, such as tflite."""
    return sorted({graph.file.rpartition(".")[2] for graph in manifest.graphs.values()})


def _licence(licences: dict[str, str]) -> str:
    """The licence of all corpora by the name that hubs give it, else "other"."""
    known = {licence.lower().replace(" ", "-") for licence in licences.values()}
    return known.pop() if len(known) == 1 and known <= {*_LICENCES} else "other"


def _named(training: dict[str, Any], settings: Sequence[str]) -> list[str]:
    """What these settings name, of the run and of those that it began with; commas between."""
    runs = [training.get("settings"), training.get("start"), *training.get("branches", {}).values()]
    values = [str(run.get(name) or "") for run in runs if run for name in settings]
    return list(dict.fromkeys(part for value in values for part in value.split(",") if part))


def _task(modality: str) -> str:
    return "text-classification" if modality == TEXT else "audio-classification"


def _results(manifest: Manifest, form: str) -> list[dict[str, Any]]:
    """Of each corpus and modality, what was measured of the form that the bundle has."""
    pairing = manifest.training.get("pairing", "")
    found = []
    for corpus, modalities in manifest.metrics.get("corpora", {}).items():
        for modality, forms in modalities.items():
            values = forms.get(form)
            if values is None:
                continue
            # As in the table of the text: a figure that rests on words nobody spoke says so.
            paired = pairing and values.get("ua_folds") and modality != AUDIO
            found.append(
                {
                    "task": _task(modality),
                    "kind": kind_of(corpus),
                    "corpus": corpus,
                    "what": f"{form}, from {modality}"
                    + (f"; rests on {pairing}" if paired else ""),
                    "ua": values["ua"],
                    "wa": values["wa"],
                }
            )
    return found
