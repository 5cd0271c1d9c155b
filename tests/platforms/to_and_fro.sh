#!/usr/bin/env bash
# What this machine's onnxseal seals is opened by that for another system, and the reverse, byte for byte.
#
#   tests/platforms/to_and_fro.sh FOLDER HERE COMMAND...     HERE is this machine's onnxseal; COMMAND runs the other
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../fixtures/models" && pwd)

rm -rf "$1"
mkdir -p "$1"
cd "$1"
here=("$2")
shift 2
there=("$@")

"${here[@]}" keygen -o here.txt >here.pub
"${there[@]}" keygen -o there.txt >there.pub
for model in digits_cnn digits_cnn_dynamo digits_mlp_int4; do
    "${here[@]}" -q protect "$models/$model.onnx" -o "from_here/$model.onnx" -R there.pub
    "${there[@]}" -q unprotect "from_here/$model.onnx" -i there.txt -o "opened_there/$model.onnx"
    "${there[@]}" -q protect "$models/$model.onnx" -o "from_there/$model.onnx" -R here.pub
    "${here[@]}" -q unprotect "from_there/$model.onnx" -i here.txt -o "opened_here/$model.onnx"
done
for opened in opened_*/*; do cmp "$opened" "$models/${opened##*/}"; done
[[ $(ls opened_there) == "$(ls opened_here)" && $(ls opened_here | wc -l) == 4 ]]
