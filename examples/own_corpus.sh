#!/bin/sh
# From clips of your own to a bundle on the device: sh examples/own_corpus.sh CLIPS.csv OUT [OPTIONS OF fit...]
#
# CLIPS.csv has a header and at least path,label; speaker keeps people apart, session, text, split, start and end
# are read too. Needs the workstation install (make setup); PYTHON names its interpreter.
set -eu

manifest=$1
out=$2
shift 2
python=${PYTHON:-.venv/bin/python}

$python -m training corpora "manifest=$manifest"
$python -m training fit "manifest=$manifest" --out "$out/run" "$@"
$python -m conversion build "$out/run" --out "$out/bundle"
$python -m conversion parity "$out/bundle" --run "$out/run" --manifest "$out/run/watched.csv"
$python -m benchmarks accuracy --bundle "$out/bundle" --manifest "$out/run/watched.csv"
echo "listen with it: edge-emotion run --bundle $out/bundle --mic"
