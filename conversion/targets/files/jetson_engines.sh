#!/bin/sh
# Build a TensorRT engine of each graph of this bundle, on the board that is to run it:
#
#   ./build-engines.sh [FOLDER]        engines go into FOLDER, by default engines/ beside this file
#
# Types and, in int8, scales are those of the graphs: nothing is calibrated. `edge-emotion` does not
# need these engines, it has ONNX Runtime build and keep its own; they are for programs of your own,
# and for `trtexec --loadEngine`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/engines}
trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)

if [ ! -x "$trtexec" ]; then
    echo "build-engines: trtexec is not here; on a Jetson: sudo apt install tensorrt" >&2
    exit 2
fi
# From TensorRT 10 on types are those of the graph; before, they have to be allowed.
options=--stronglyTyped
"$trtexec" --help 2>&1 | grep -q -e "$options" || options=
mkdir -p "$out"
for graph in "$here"/*.onnx; do
    name=$(basename "$graph" .onnx)
    allowed=$options
    if [ -z "$allowed" ]; then
        allowed=--fp16
        ! grep -q QuantizeLinear "$graph" || allowed="--fp16 --int8"
    fi
    echo "== $name"
    # shellcheck disable=SC2086  # a list of words
    "$trtexec" --onnx="$graph" --saveEngine="$out/$name.engine" $allowed --skipInference
done
