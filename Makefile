# Every target brings what it needs: a Python environment, Debian packages (with sudo if not root).

CORPORA ?= ../shared/data
PYTEST_ARGS ?= -n auto --dist loadfile
# Where tests wait and measure; those of what trains take long to read in.
TIMED = tests/device tests/edge_runtime
export CORPORA

.DEFAULT_GOAL := help
.PHONY: help demo test lint format setup pipeline bench-check test-tflite-runtime test-arm64 test-armhf \
	test-microcontroller test-tensorrt clean

help:
	@echo "make demo        stream a spoken scene through the default bundle, look for a microphone"
	@echo "make test        lint, types and every test that runs on this machine"
	@echo "make lint        ruff and mypy"
	@echo "make format      let ruff rewrite the sources"
	@echo "make setup       the workstation environment, in .venv"
	@echo "make pipeline    train, convert, check, measure: CORPORA=$(CORPORA)"
	@echo "make bench-check latency per stage, and a fault where a ratio left its bound"
	@echo "make test-tflite-runtime  the bundle in its other interpreter, on CPython 3.11"
	@echo "make test-arm64  the wheel on emulated 64-bit Raspberry Pi OS, Debian 12 and 13"
	@echo "make test-armhf  the same on 32 bits, Debian 12"
	@echo "make test-microcontroller  TensorFlow Lite Micro, and the C99 library on emulated Cortex-M"
	@echo "make test-tensorrt  the graphs for Jetson in TensorRT's parser and builder, without a GPU"
	@echo "make clean       remove what the targets made in this folder"

setup: .venv/.installed

.venv/.installed: setup.py scripts/setup scripts/find-python
	scripts/setup workstation .venv

# The package is installed as a user would have it, so any of its files changing installs it again.
.venv-demo/.installed: setup.py pyproject.toml scripts/setup scripts/find-python \
		$(shell find edge_runtime -type f -not -name '*.pyc')
	scripts/setup device .venv-demo

demo: .venv-demo/.installed
	@.venv-demo/bin/edge-emotion demo $(wildcard \
		$(CORPORA)/ravdess/Actor_01/03-01-0[1345]-*-01-01-01.flac \
		$(CORPORA)/emodb/wav/03a01[FNW]*.flac)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

test: lint
	scripts/debian-packages libportaudio2 pulseaudio pulseaudio-utils libasound2-plugins mosquitto openssl flite systemd tmux \
		chromium-headless-shell gcc libc6-dev openssh-server openssh-client nginx-light
	.venv/bin/python -m pytest $(PYTEST_ARGS) -m "not alone and not realtime"
	.venv/bin/python -m pytest -n 4 --dist loadgroup -m realtime $(TIMED)
	.venv/bin/python -m pytest -m alone $(TIMED)

pipeline: setup
	scripts/pipeline "$(CORPORA)" runs/pipeline

bench-check: setup
	OPENBLAS_NUM_THREADS=1 .venv/bin/python -m benchmarks latency --check

test-tflite-runtime: setup
	scripts/test-tflite-runtime

test-arm64: setup
	scripts/test-emulated arm64 bookworm
	scripts/test-emulated arm64 trixie

test-armhf: setup
	scripts/test-emulated armhf bookworm

test-microcontroller: setup
	scripts/test-microcontroller

test-tensorrt: setup
	scripts/test-tensorrt

clean:
	rm -rf .venv .venv-demo .venv-tflite-runtime .venv-microcontroller .venv-tensorrt build dist *.egg-info runs/pipeline .pytest_cache .mypy_cache .ruff_cache
