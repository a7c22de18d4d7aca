"""`python -m conversion`: a training run becomes a bundle, and the bundle is held against it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.deliver import commands as deliver
from edge_runtime.console import ERROR, OK, THEIRS, command_parser, counted, note, run_command
from edge_runtime.errors import EdgeError
from edge_runtime.settings import Limits, number
from training.output import new_file
from training.tiers import EXTENTS, LARGE, SMALL, TIERS, Extent

if TYPE_CHECKING:
    from conversion.artifact import Options
    from conversion.targets import Target
    from training.run import Run

DIFFERENT = 1  # the exit code of diff, as that of the program of this name
BROKEN = 1  # of parity, where the bundle is another model than the run
_EPILOG = """examples:
  python -m conversion build runs/mine --out bundles/mine
  python -m conversion build runs/mine --out artifacts --target all
  python -m conversion parity bundles/mine --run runs/mine --manifest clips.csv
  python -m conversion inspect bundles/mine
  python -m conversion diff bundles/mine bundles/other
  python -m conversion build training/models/default --tier large --out bundles/large
  python -m conversion deploy bundles/mine pi@kitchen.local pi@hall.local
  python -m conversion key keys/bundles && python -m conversion sign bundles/mine --key keys/bundles
  python -m conversion publish bundles/mine /srv/bundles --keys keys --init
"""


def parser() -> argparse.ArgumentParser:
    """The command line; built without what takes seconds to import."""
    result, commands = command_parser(
        "python -m conversion",
        "Convert a training run to what a device takes, check it, and bring it to devices.",
        _EPILOG,
    )

    _add_build(commands)
    _add_encoder(commands)

    parity = commands.add_parser(
        "parity",
        help="float vs fake-quant vs int8 on real clips",
        description="Print what each form of the model says of these clips, beside the bundle. "
        "Exit code 1 where the bundle is broken: more than 10 points of UA lost to float, or 40 of "
        "one class's recall, by more than chance; or forms that differ by their arithmetic alone "
        "10 % of the probability apart.",
    )
    parity.add_argument("bundle", metavar="BUNDLE", help="folder or .zip of a bundle, or 'default'")
    parity.add_argument("--manifest", type=Path, required=True, metavar="CSV", help="clips")
    parity.add_argument(
        "--run",
        type=Path,
        metavar="RUN",
        help="the run it was built from (default: the one that ships with the default bundle)",
    )
    parity.add_argument(
        "--against",
        metavar="BUNDLE",
        help="a bundle of the same model for another target, such as jetson",
    )
    parity.set_defaults(command=_parity)

    inspect = commands.add_parser("inspect", help="operations, delegate, MACs, memory, time")
    inspect.add_argument(
        "bundle", metavar="BUNDLE", help="folder or .zip of a bundle, or 'default'"
    )
    inspect.add_argument("--json", type=new_file, metavar="F", help="write the figures as JSON")
    inspect.set_defaults(command=_inspect)

    diff = commands.add_parser(
        "diff",
        help="what differs between two bundles or artifacts",
        description="Print one line for each difference: fields of the manifest, operations and "
        "weights of graphs, arrays, texts. Exit code 0 where there is none, 1 where there is.",
    )
    for name in ("one", "other"):
        diff.add_argument(name, metavar="BUNDLE", help="folder or .zip, or 'default'")
    diff.set_defaults(command=_diff)
    deliver.add(commands)
    return result


def _add_encoder(commands: Any) -> None:
    encoder = commands.add_parser(
        "encoder",
        help="the pre-trained encoder of the larger tiers as a graph",
        description="Write the first blocks of the encoder of Whisper-tiny as a TFLite graph of "
        "int8 weights, as training pretrained asks it and build --tier puts it into a bundle.",
    )
    encoder.add_argument(
        "--out", type=new_file, required=True, metavar="TFLITE", help="file to write"
    )
    encoder.add_argument(
        "--weights",
        type=Path,
        metavar="NPZ",
        help="weights of an encoder that was trained further, encoder-TIER.npz of a run (default: "
        "those in the package pipecat-ai)",
    )
    encoder.add_argument(
        "--blocks",
        type=number(int, Limits(minimum=1, maximum=4)),
        default=EXTENTS[LARGE].blocks,
        metavar="N",
        help="without --weights: so many of its four blocks (default: %(default)s)",
    )
    encoder.add_argument(
        "--units",
        type=number(int, Limits(minimum=1, maximum=EXTENTS[LARGE].units)),
        default=EXTENTS[LARGE].units,
        metavar="N",
        help="without --weights: so many units of each block's dense layers (default: %(default)s)",
    )
    encoder.set_defaults(command=_encoder)


def _add_build(commands: Any) -> None:
    build = commands.add_parser("build", help="convert a run to a bundle")
    build.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="folder of a training run; where the target's artifact is made of a finished bundle, "
        "also a folder or .zip of one, or 'default'",
    )
    build.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder to write")
    build.add_argument(
        "--target",
        default="raspberry-pi",
        help="device (default: raspberry-pi), or all: each into OUT/TARGET (docs/targets.md)",
    )
    build.add_argument("--name", help="name of the bundle (default: that of its folder)")
    build.add_argument(
        "--form",
        choices=("int8", "float16", "float"),
        help="of raspberry-pi int8 TFLite (default) or float ONNX graphs; of jetson ONNX in "
        "float16 (default), int8 or float",
    )
    build.add_argument(
        "--keywords",
        type=Path,
        metavar="TXT",
        help="phrases that the device spots, as python -m training keywords and phrases write "
        "them; by those of training phrases it judges, too",
    )
    build.add_argument(
        "--whole",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="add the whole model as one graph over 7.5 s (default: if all graphs stay in 6 MB)",
    )
    build.add_argument(
        "--tier",
        choices=TIERS,
        default=SMALL,
        help="the model alone (small, the default), or with the pre-trained encoder that the run "
        "was joined with (training pretrained): medium, 3 MB more, or large, 6 MB",
    )
    build.add_argument(
        "--phases",
        type=number(int, Limits(minimum=1)),
        metavar="N",
        help="hear on so many grids of maps, a frame apart, as many as the model's stride at most: "
        "the more, the less scores depend on where an utterance begins, for N times the work of "
        "the audio encoder (default: the stride)",
    )
    build.add_argument(
        "--allow-loss",
        action="store_true",
        help="build what rounding to int8 has broken as well, which is refused (more than 10 "
        "points of UA lost, 40 of one class's recall, or 20 %% of the probability moved to other "
        "classes): manifest and card say so",
    )
    build.set_defaults(command=_build)


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parsed = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("absl").setLevel(logging.WARNING)
    from conversion.errors import ConversionError
    from training.errors import TrainingError

    return run_command(
        "conversion",
        lambda: int(parsed.command(parsed)),
        (ConversionError, TrainingError, EdgeError),
        extras="train,convert,deliver",
    )


def _build(arguments: argparse.Namespace) -> int:
    from conversion.artifact import Options, is_bundle, make, make_all
    from conversion.targets import ALL, target_named
    from training.run import load

    options = Options(
        arguments.name,
        arguments.form,
        arguments.keywords,
        arguments.whole,
        arguments.tier,
        arguments.phases,
        arguments.allow_loss,
    )

    def done(out: Path, target: Target) -> None:
        print(f"{out}: {_described(out, target, options)}", flush=True)

    failed: dict[str, str] = {}
    if arguments.target == ALL:
        failed = make_all(arguments.run, arguments.out, options, done)
    else:
        target = target_named(arguments.target)
        make(arguments.run, arguments.out, target, options)
        done(arguments.out, target)
    for name, why in failed.items():
        note(f"conversion: {name} was not built: {why}", ERROR)
    if not is_bundle(arguments.run):
        _warn(load(arguments.run))
    return THEIRS if failed else OK


def _described(out: Path, target: Target, options: Options) -> str:
    """What was built, in words."""
    from conversion.targets import BundleTarget
    from edge_runtime.bundle import load_bundle

    if not isinstance(target, BundleTarget):
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        return f"{target.name} artifact, {size / 1e6:.2f} MB"
    bundle = load_bundle(out)
    form = options.form or target.forms[0]
    kinds = {spec.file.rpartition(".")[2] for spec in bundle.manifest.graphs.values()}
    tensors = f"{form} ONNX" if kinds == {"onnx"} else "all tensors integer"
    if options.tier != SMALL and kinds != {"onnx"}:
        tensors += " but what is between the layers of the pre-trained encoder"
    return f"{target.name} bundle, {bundle.file_bytes() / 1e6:.2f} MB, {tensors}"


def _warn(run: Run) -> None:
    from training.evaluate.advice import int8_losses, miscalibrated, uncalibrated
    from training.evaluate.judge import modalities

    for warning in (
        *int8_losses(run.metrics, run.training),
        *miscalibrated(run.calibration, run.metrics),
        *uncalibrated(run.calibration, modalities(run.config.parts)),
    ):
        logging.warning("warning: %s", warning)


def _encoder(arguments: argparse.Namespace) -> int:
    from conversion.pretrained import write_encoder
    from training.data.whisper_encoder import encoder_of
    from training.output import at_once

    weights = arguments.weights
    content = weights.read_bytes() if weights else None
    encoder = encoder_of(content, Extent(arguments.blocks, arguments.units), str(weights))
    with tempfile.TemporaryDirectory() as work, at_once(arguments.out) as new:
        write_encoder(encoder, new, Path(work))
    size, blocks = arguments.out.stat().st_size, len(encoder.layers)
    print(f"{arguments.out}: {blocks} blocks of the encoder, {size / 1e6:.2f} MB, int8 weights")
    return OK


def _parity(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from conversion.errors import ConversionError
    from conversion.parity import COMPARED, FAKE_QUANT, INT8, ONNX, TORCH, WINDOW, parity
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables
    from training.corpora.manifest import load as load_manifest
    from training.run import load_run_of

    bundle = load_bundle(arguments.bundle)
    run = load_run_of(arguments.bundle, arguments.run)
    listed = load_manifest(arguments.manifest).utterances
    spoken = [u for u in listed if u.path is not None]
    if not spoken:
        lacking = counted(len(listed), "utterance")
        raise ConversionError(f"{arguments.manifest} has no audio: {lacking} of text only")
    utterances = [u for u in spoken if u.label in run.config.labels]
    if not utterances:
        classes = ", ".join(run.config.labels)
        raise ConversionError(f"{arguments.manifest} lists no audio of a class of {classes}")
    with tempfile.TemporaryDirectory() as work:
        other = load_bundle(arguments.against) if arguments.against else None
        result = parity(bundle, run, utterances, Path(work), other)
    console = Tables()
    table = Table("form", "UA % [95 %]", "WA %", "same label as int8 %", "largest score difference")
    for form in result.scores:
        metrics = result.metrics(form)
        table.add_row(
            form,
            metrics.ua_text(),
            f"{100 * metrics.wa:.1f}",
            f"{100 * result.agreement(form, INT8):.2f}",
            f"{result.difference(form, INT8):.4f}",
        )
    console.print(table)
    for form in result.scores:
        print(f"{form}: {COMPARED[form]}")
    if WINDOW in result.scores:
        console.print(
            f"whole window against streaming: same label on "
            f"{100 * result.agreement(WINDOW, INT8):.2f} % of "
            f"{counted(result.metrics(WINDOW).n, 'clip')} that it holds"
        )
    console.print(
        f"{counted(len(result.truth), 'clip')}, {metrics.speakers_text()}; unrounded, torch "
        f"against ONNX Runtime: same label {100 * result.agreement(TORCH, ONNX):.2f} %, fake-quant "
        f"against int8: {100 * result.agreement(FAKE_QUANT, INT8):.2f} %"
    )
    if result.silent:
        console.print(f"{counted(result.silent, 'clip')} left out: digital silence, no utterance")
    broken = result.broken(bundle.manifest.form or "int8")
    for line in broken:
        note(f"conversion: broken: {line}", ERROR)
    return BROKEN if broken else OK


def _inspect(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from conversion.inspect import inspect_bundle
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables
    from training.output import at_once

    reports = inspect_bundle(load_bundle(arguments.bundle))
    console = Tables()
    for report in reports:
        table = Table("operation", "output", "shape", "MACs", "runs in", "ms alone")
        for operation in report.operations:
            table.add_row(
                operation.name,
                operation.output,
                " x ".join(map(str, operation.shape)),
                f"{operation.macs:,}",
                "XNNPACK" if operation.delegated else "reference kernel",
                f"{operation.milliseconds:.3f}",
            )
        delegated = sum(operation.delegated for operation in report.operations)
        types = ", ".join(f"{count} {name.lower()}" for name, count in report.tensors.items())
        console.print(table)
        console.print(
            f"{report.role}: {delegated} of {len(report.operations)} operations in the XNNPACK "
            f"delegate, {report.macs:,} MACs, {report.milliseconds:.3f} ms; weights "
            f"{report.weight_bytes:,} bytes, arena {report.arena_bytes:,}, file "
            f"{report.file_bytes:,}; tensors: {types}\n"
        )
    if arguments.json:
        content = {"graphs": [report.to_dict() for report in reports]}
        with at_once(arguments.json) as new:
            new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return OK


def _diff(arguments: argparse.Namespace) -> int:
    from conversion.diff import differences

    found = differences(arguments.one, arguments.other)
    for line in found:
        print(line)
    return DIFFERENT if found else OK


if __name__ == "__main__":
    sys.exit(main())
