"""The model card: what a bundle is for, what it learned from, how good it is, where it fails."""

from __future__ import annotations

from typing import Any

from edge_runtime.bundle import Manifest


def model_card(manifest: Manifest) -> str:
    """Markdown text of MODEL_CARD.md, made from the manifest alone."""
    training, metrics = manifest.training, manifest.metrics
    parts = [
        f"# {manifest.name}: speech emotion recognition on the device",
        _INTENT.format(labels=", ".join(manifest.labels), variant=manifest.variant),
        "## Training data and licence",
        _data_table(training),
        _LICENCE.format(licence=training.get("licence", "unknown: the run names no corpus")),
        "## Accuracy",
        _accuracy(metrics),
        "## Confidence",
        _CONFIDENCE.format(
            temperature=manifest.calibration.temperature,
            threshold=manifest.calibration.threshold,
            error=_percent(metrics.get("calibration_error")),
        ),
        "## Limits",
        _LIMITS,
        "## How it was made",
        _provenance(manifest),
    ]
    return "\n\n".join(parts) + "\n"


_INTENT = """Listens to one utterance of speech and gives the probability that it sounds {labels}.
Model: MSCNN-SPU, {variant} variant (Peng et al., ICASSP 2021, arXiv 2106.04133), full int8,
quantization-aware. Meant for prototypes, research and teaching on Raspberry Pi class devices: an
interface that reacts to tone of voice, where a wrong verdict does no harm."""

_LICENCE = """Weights follow the terms of the data they were trained on, the strictest of which
binds: **{licence}**. The code around them is Apache-2.0. For other terms, train on data of your
own: `python -m training fit manifest=my.csv --out RUN`, then
`python -m conversion build RUN --out BUNDLE`."""

_CONFIDENCE = """Logits are divided by a temperature of {temperature:.3f}, fitted on speakers
that did not train; the expected calibration error (15 bins, cross-fitted) is {error}. Below a
confidence of {threshold:.2f} the label is "unsure"."""

_LIMITS = """- The figures are those of the corpora above. Acted studio speech, by few speakers in
  few sentences, is easier than life: spontaneous speech, other languages, children, rooms and
  telephones are outside of what was measured; expect less.
- It hears tone, not feeling: a verdict is about how an utterance sounds, never about what a
  person feels. Do not use it to judge, select or monitor people; in the EU, emotion recognition
  at work and in education is prohibited by the AI Act (Article 5).
- Utterances under half a second carry little prosody and are often \"unsure\"."""


def _data_table(training: dict[str, Any]) -> str:
    rows = ["| corpus | clips | speakers | hours | licence | source |", "|---|---|---|---|---|---|"]
    for name, corpus in training.get("corpora", {}).items():
        rows.append(
            f"| {name} | {corpus['clips']} | {corpus['speakers']} | {corpus['hours']:.2f} "
            f"| {corpus['licence'] or 'see its owner'} | {corpus['citation'] or '-'} |"
        )
    return "\n".join(rows)


def _accuracy(metrics: dict[str, Any]) -> str:
    if "corpora" not in metrics:
        return "Not measured: this run held no speaker out."
    rows = [
        f"Measured on: {metrics['protocol']}",
        "",
        "| corpus | form | clips | UA % | WA % |",
        "|---|---|---|---|---|",
    ]
    for corpus, forms in metrics["corpora"].items():
        for form, values in forms.items():
            rows.append(
                f"| {corpus} | {form} | {values['n']} | {100 * values['ua']:.1f} "
                f"| {100 * values['wa']:.1f} |"
            )
    rows += [
        "",
        "UA is the mean of the per-class recalls, WA the share of utterances that are right. "
        "int8 is the converted bundle, run through the device's own code.",
    ]
    return "\n".join(rows)


def _provenance(manifest: Manifest) -> str:
    versions = ", ".join(f"{tool} {version}" for tool, version in manifest.versions.items())
    settings = manifest.training.get("settings", {})
    chosen = ", ".join(f"{key} {value}" for key, value in settings.items())
    sizes = f"{len(manifest.audio_kernels)} kernels x {manifest.filters} filters"
    milliseconds = 1000 * manifest.stride * manifest.mfcc.hop / manifest.mfcc.sample_rate
    sizes += f", a map every {milliseconds:g} ms"
    return f"{sizes}. Settings: {chosen or 'not recorded'}.\n\nMade with {versions}."


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.1f} %"
