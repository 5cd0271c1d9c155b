#!/usr/bin/env bash
# Runs tests of sessions, in Rust and in Python, with other versions of ONNX Runtime than the one in tests/requirements.txt: the
# oldest that sessions are made with, and some after it. Part of tests/run.sh, which makes .venv and installs the package.
#
#   tests/onnxruntime_versions.sh             all
#   tests/onnxruntime_versions.sh 1.22.1      some
#   tests/onnxruntime_versions.sh fetch       only fetches them
#
# A version whose wheel cannot be had here is skipped, and the reason printed; one that was fetched stays in target/onnxruntime.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VERSIONS=(1.22.1 1.23.2 1.31.1)
only_fetch=
if [[ ${1:-} == fetch ]]; then
    only_fetch=1
elif (($#)); then
    VERSIONS=("$@")
fi

for version in "${VERSIONS[@]}"; do
    folder=target/onnxruntime/$version
    if [[ ! -d $folder ]]; then
        new=$folder.new.$$
        # It alone: everything else is of .venv.
        if ! said=$(.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --target "$new" "onnxruntime==$version" 2>&1); then
            rm -rf "$new"
            printf '== ONNX Runtime %s: skipped, its wheel cannot be had here: %s\n' "$version" "${said##*$'\n'}"
            continue
        fi
        mkdir -p target/onnxruntime
        mv "$new" "$folder"
    fi
    [[ -z $only_fetch ]] || continue
    echo "== ONNX Runtime $version"
    libraries=("$PWD/$folder"/onnxruntime/capi/libonnxruntime.*.*)
    # In Rust, 1.22 aborts with plain models too, by way of the crate ort: not used there.
    # Otherwise with what tests/run.sh has built already.
    [[ $version == 1.22.* ]] || ORT_DYLIB_PATH=${libraries[0]} cargo test --quiet --release --workspace \
        --exclude onnxseal-python --exclude onnxseal-proto --features object-store --test it -- sessions:: on_demand:: --skip real_models
    PYTHONPATH=$PWD/$folder .venv/bin/python -m pytest --quiet -p no:cacheprovider tests/python/test_wheel_{session,patch,foreign,memory}.py \
        -k "not outputs_are_those"
done
