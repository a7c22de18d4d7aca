"""What a target gets: a bundle made of a run, or an artifact made of a finished bundle."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from conversion.bundle import build, refuse_foreign
from conversion.errors import ConversionError
from conversion.targets import (
    BundleTarget,
    DerivedTarget,
    Target,
    bundle_target,
    step_graphs,
    targets,
)
from edge_runtime import __version__
from edge_runtime.bundle import DEFAULT, Bundle, load_bundle
from edge_runtime.errors import EdgeError
from edge_runtime.made_for import build_command
from edge_runtime.manifest import MANIFEST, SCHEMA_VERSION
from training.errors import TrainingError
from training.output import at_once
from training.run import RUN_FILE, Run, load
from training.tiers import SMALL

BASE = "raspberry-pi"  # whose int8 graphs the others are derived of
MISTAKES = (ConversionError, TrainingError, EdgeError)


@dataclass(frozen=True)
class Options:
    """How bundles are built, see `conversion.bundle.build`."""

    name: str | None = None
    form: str | None = None
    keywords: Path | None = None
    whole: bool | None = None
    tier: str = SMALL
    phases: int | None = None
    allow_loss: bool = False


def is_bundle(source: Path) -> bool:
    """Whether `source` is a finished bundle, not a run: by its name, a .zip, or its manifest."""
    if str(source) == DEFAULT or source.suffix == ".zip":
        return True
    return (source / MANIFEST).exists() and not (source / RUN_FILE).exists()


def make(source: Path, out: Path, target: Target, options: Options) -> None:
    """Write the artifact of `source`, a run or a bundle, for `target` into the folder `out`.

    What is derived of a bundle takes a run as well: its bundle for `BASE` is built first.
    Raises ConversionError, TrainingError or EdgeError; `out` stays as it was.
    """
    finished = is_bundle(source)
    if isinstance(target, BundleTarget):
        if finished:
            raise ConversionError(
                f"the bundle for {target.name} is made of a training run, not of {source}, a "
                f"finished bundle: python -m conversion build RUN --out {out} --target "
                f"{target.name}"
            )
        _build(load(source), out, target, options)
        return
    assert isinstance(target, DerivedTarget)
    refuse_foreign(out)
    target.ready()  # before minutes are spent
    if finished:
        derive(load_bundle(source), out, target)
        return
    with tempfile.TemporaryDirectory() as work:
        base = Path(work) / out.resolve().name
        _build(load(source), base, bundle_target(BASE), options)
        derive(load_bundle(base), out, target)


def make_all(
    source: Path, out: Path, options: Options, done: Callable[[Path, Target], None]
) -> dict[str, str]:
    """Write the artifact for every target into OUT/TARGET; `done` is told of each that is there.

    One that cannot be made keeps none of the others. Returns why, by target.
    """
    failed: dict[str, str] = {}
    base = source if is_bundle(source) else out / BASE
    for name, target in targets().items():
        try:
            if isinstance(target, DerivedTarget) and BASE in failed and base != source:
                raise ConversionError(f"its bundle for {BASE} was not built")
            derived = isinstance(target, DerivedTarget)
            make(base if derived else source, out / name, target, _named(options, out))
            done(out / name, target)
        except MISTAKES as error:
            failed[name] = str(error)
    return failed


def derive(bundle: Bundle, out: Path, target: DerivedTarget) -> None:
    """Write the artifact of a finished bundle into the folder `out`, replacing one there.

    Its manifest.json says for which target it is, of what it was made, and the hash of each file.
    Raises ConversionError for a missing tool, and for a graph that cannot run there.
    """
    refuse_foreign(out)
    versions = target.ready()
    kinds = {spec.file.rpartition(".")[2] for spec in bundle.manifest.graphs.values()}
    if BASE not in bundle.manifest.targets or kinds != {"tflite"}:
        made = ", ".join(bundle.manifest.targets)
        raise ConversionError(
            f"the artifact for {target.name} is made of an int8 bundle for {BASE}, and "
            f"{bundle.source} is one for {made}, of {' and '.join(sorted(kinds))} graphs: "
            f"{build_command(BASE)}"
        )
    with tempfile.TemporaryDirectory() as work:
        steps = step_graphs(bundle, Path(work))
        for graph in steps.values():
            target.check(graph)
    with at_once(out, folder=True) as new:
        target.derive(bundle, new)
        text = _manifest(bundle, sorted(steps), new, target, versions)
        (new / MANIFEST).write_text(text, encoding="utf-8")
        refuse_foreign(out)  # what came since


def _manifest(
    bundle: Bundle, roles: list[str], folder: Path, target: Target, versions: Mapping[str, str]
) -> str:
    """The text of manifest.json of what is in `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    described = [
        {
            "file": path.relative_to(folder).as_posix(),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]
    graphs = bundle.manifest.graphs
    raw = {
        "schema": SCHEMA_VERSION,
        "name": bundle.manifest.name,
        "target": target.name,
        "targets": [target.name],
        "graphs": {},
        "files": described,
        "made_of": {role: graphs[role].sha256 for role in roles},
        "versions": {"edge-emotion": __version__, **versions},
    }
    return json.dumps(raw, indent=1) + "\n"


def _build(run: Run, out: Path, target: Target, options: Options) -> None:
    assert isinstance(target, BundleTarget)
    name = options.name or out.resolve().name
    build(
        run,
        out,
        target,
        name,
        options.form,
        options.keywords,
        options.whole,
        options.tier,
        options.phases,
        options.allow_loss,
    )


def _named(options: Options, out: Path) -> Options:
    """The same for all targets: what a bundle is called does not say for what it is made."""
    return replace(options, name=options.name or out.resolve().name)
