"""The model card: what a bundle is for, what it learned from, how good it is, where it fails."""

from __future__ import annotations

from typing import Any

from edge_runtime.manifest import AUDIO, Manifest
from training.evaluate.metrics import INTERVAL, ua_text
from training.run import forms_of


def model_card(manifest: Manifest) -> str:
    """Markdown text of MODEL_CARD.md, made from the manifest alone."""
    training, metrics = manifest.training, manifest.metrics
    parts = [
        f"# {manifest.name}: speech emotion recognition on the device",
        _INTENT.format(
            modalities=" or ".join(manifest.modalities),
            labels=", ".join(manifest.labels),
            variant=manifest.variant,
        ),
        "## Training data and licence",
        _data_table(training),
        _LICENCE.format(licence=training.get("licence", "unknown: the run names no corpus")),
        "## Accuracy",
        _accuracy(metrics, training.get("pairing", "")),
        "## Confidence",
        _confidence(manifest),
        "## Limits",
        _LIMITS,
        "## How it was made",
        _provenance(manifest),
    ]
    return "\n\n".join(parts) + "\n"


_INTENT = """Takes one utterance ({modalities}) and gives the probability that it is {labels}.
Model: MSCNN-SPU, {variant} variant (Peng et al., ICASSP 2021, arXiv 2106.04133), full int8,
quantization-aware. Meant for prototypes, research and teaching on Raspberry Pi class devices: an
interface that reacts to tone of voice, where a wrong verdict does no harm."""

_LICENCE = """Weights follow the terms of the data they were trained on, the strictest of which
binds: **{licence}**. The code around them is Apache-2.0. For other terms, train on data of your
own: `python -m training fit manifest=my.csv --out RUN`, then
`python -m conversion build RUN --out BUNDLE`."""

_CONFIDENCE = """Logits are divided by a temperature, fitted on clips and texts that did not
train; the expected calibration error has 15 bins and is cross-fitted. Below the threshold the label
is "unsure"."""

_LIMITS = """- The figures are those of the corpora above. Acted studio speech, by few speakers in
  few sentences, is easier than life: spontaneous speech, other languages, children, rooms and
  telephones are outside of what was measured; expect less.
- It hears tone, not feeling: a verdict is about how an utterance sounds, never about what a
  person feels. Do not use it to judge, select or monitor people; in the EU, emotion recognition
  at work and in education is prohibited by the AI Act (Article 5).
- Utterances under half a second carry little prosody and are often \"unsure\"."""


def _data_table(training: dict[str, Any]) -> str:
    rows = [
        "| corpus | utterances | speakers | hours | licence | source |",
        "|---|---|---|---|---|---|",
    ]
    for name, corpus in training.get("corpora", {}).items():
        hours = f"{corpus['hours']:.2f}" if corpus["hours"] else "text only"
        rows.append(
            f"| {name} | {corpus['clips']} | {_speakers(corpus['speakers'])} | {hours} "
            f"| {corpus['licence'] or 'see its owner'} | {corpus['citation'] or '-'} |"
        )
    return "\n".join(rows)


def _accuracy(metrics: dict[str, Any], pairing: str) -> str:
    if "corpora" not in metrics:
        return "Not measured: this run held no clip out."
    rows = [
        f"Measured on: {metrics['protocol']}",
        "",
        "| corpus | from | form | n | UA % [95 %] | mean of folds | WA % |",
        "|---|---|---|---|---|---|---|",
    ]
    for corpus, modalities in metrics["corpora"].items():
        for modality, forms in modalities.items():
            for form, values in forms.items():
                folds = values.get("ua_folds")
                mark = " *" if pairing and folds and modality != AUDIO else ""
                mean = f"{100 * sum(folds) / len(folds):.1f}" if folds else "-"
                rows.append(
                    f"| {corpus} | {modality}{mark} | {form} | {values['n']} "
                    f"| {ua_text(values)} | {mean} | {100 * values['wa']:.1f} |"
                )
    rows += [
        "",
        "UA is the mean of the per-class recalls, WA the share of utterances that are right. "
        "Mean of folds: of the UA of each fold by itself.",
        "",
        *(f"- {form}: {text}" for form, text in forms_of(metrics).items()),
        "",
        INTERVAL,
    ]
    if pairing:
        rows += ["", f"\\* rests on {pairing}."]
    return "\n".join(rows)


def _provenance(manifest: Manifest) -> str:
    versions = ", ".join(f"{tool} {version}" for tool, version in manifest.versions.items())
    settings = manifest.training.get("settings", {})
    chosen = ", ".join(f"{key} {value}" for key, value in settings.items())
    kernels = {"audio": manifest.audio, "text": manifest.text}
    sizes = ", ".join(
        f"{name} kernels {', '.join(map(str, part.kernels))}"
        for name, part in kernels.items()
        if part
    )
    sizes += f" of {manifest.filters} filters each"
    if manifest.audio:
        seconds = manifest.audio.stride * manifest.mfcc.hop / manifest.mfcc.sample_rate
        sizes += f", an audio map every {1000 * seconds:g} ms"
    lines = [f"{sizes}. Settings: {chosen or 'not recorded'}."]
    for name, branch in manifest.training.get("branches", {}).items():
        kept = ", ".join(f"{key} {value}" for key, value in branch.items())
        lines.append(f"The {name} branch was trained alone and kept: {kept or 'not recorded'}.")
    if "start" in manifest.training:
        before = ", ".join(f"{key} {value}" for key, value in manifest.training["start"].items())
        lines.append(f"Training went on from a run with: {before or 'not recorded'}.")
    return "\n\n".join([*lines, f"Made with {versions}."])


def _confidence(manifest: Manifest) -> str:
    errors = manifest.metrics.get("calibration_error", {})
    rows = ["| from | temperature | threshold | calibration error |", "|---|---|---|---|"]
    rows += [
        f"| {modality} | {chosen.temperature:.3f} | {chosen.threshold:.2f} "
        f"| {_percent(errors.get(modality))} |"
        for modality, chosen in manifest.calibration.items()
    ]
    return "\n".join([_CONFIDENCE, "", *rows])


def _speakers(count: int | None) -> str:
    return "unknown" if count is None else str(count)


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.1f} %"
