#!/usr/bin/env bash
# The main job, on the fixtures: keys, plan, protect, inspect, verify, the original again, other readers in place, external
# data, a batch. Fails where a model does not come back byte for byte.
#
#   tests/platforms/main_job.sh FOLDER COMMAND...     FOLDER is made anew; COMMAND runs onnxseal, such as: qemu-aarch64 onnxseal
set -euo pipefail
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../fixtures/models" && pwd)

rm -rf "$1"
mkdir -p "$1"
cd "$1"
shift
onnxseal() { "${command[@]}" "$@"; }
command=("$@")

# Fails if onnxseal exits with another code: exits CODE ARGUMENT...
exits() {
    local wanted=$1 found=0
    shift
    onnxseal "$@" || found=$?
    [[ $found == "$wanted" ]] || { echo "exit code $found, not $wanted: onnxseal $*" >&2; exit 1; }
}

onnxseal --version
onnxseal keygen -o key.txt >key.pub
onnxseal keygen -o other.txt >other.pub
[[ $(onnxseal keygen -y key.txt) == "$(<key.pub)" ]]
onnxseal plan "$models/digits_cnn.onnx"
onnxseal protect "$models/digits_cnn.onnx" -o sealed.onnx -R key.pub
onnxseal inspect sealed.onnx
onnxseal verify --require-protected --preset full -i key.txt sealed.onnx
onnxseal unprotect sealed.onnx -i key.txt -o restored.onnx
cmp restored.onnx "$models/digits_cnn.onnx"

# Other readers, in place: the old key opens nothing any more.
onnxseal rekey sealed.onnx -i key.txt -R other.pub
exits 5 unprotect sealed.onnx -i key.txt -o refused.onnx
[[ ! -e refused.onnx ]]
onnxseal unprotect sealed.onnx -i other.txt -o rekeyed.onnx
cmp rekeyed.onnx "$models/digits_cnn.onnx"

# One byte changed: nothing comes out.
cp sealed.onnx changed.onnx
printf '\xff' | dd of=changed.onnx bs=1 seek=1000 conv=notrunc status=none
exits 4 verify -i other.txt changed.onnx

mkdir external
onnxseal protect "$models/digits_cnn_dynamo.onnx" -o external/model.onnx -R key.pub
onnxseal unprotect external/model.onnx -i key.txt -o opened/digits_cnn_dynamo.onnx
for file in digits_cnn_dynamo.onnx{,.data}; do cmp "opened/$file" "$models/$file"; done

mkdir zoo
cp "$models"/digits_{lstm,mlp_int4,cnn_fp16,sklearn_forest}.onnx zoo/
onnxseal batch protect zoo --out sealed -R key.pub
onnxseal batch verify sealed -i key.txt
onnxseal batch unprotect sealed --out restored -i key.txt
for model in zoo/*; do cmp "$model" "restored/${model#zoo/}"; done
