#!/usr/bin/env bash
# Builds the Python package for Linux with glibc 2.28 on x86-64 and ARM64, and the command for x86-64 with glibc 2.17, the oldest
# that Rust has; checks what they need of glibc, and runs them: those for ARM64 by qemu.
#
#   tests/platforms/wheels.sh            all
#   tests/platforms/wheels.sh x86_64     one of: x86_64, aarch64, command
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/platforms/toolchain.sh
. tests/platforms/zig.sh

wheels=$platforms/wheels

# Builds the wheel for a processor, and has auditwheel say which systems it is for: wheel PROCESSOR
wheel() {
    local made
    rm -rf "${wheels:?}/$1"
    timed "built: wheel for $1" maturin build --zig --locked --target "$1-unknown-linux-gnu" --compatibility manylinux_2_28 \
        --manifest-path crates/python/Cargo.toml --out "$wheels/$1"
    made=$(echo "$wheels/$1"/onnxseal-*-manylinux_2_28_"$1".whl)
    # What the tag says, and what the library inside asks for.
    auditwheel show "$made" | tr '\n' ' ' >"$wheels/$1/audit"
    grep -qE "consistent with the following platform tag: \"manylinux_2_(17|2[0-8])_$1\"" "$wheels/$1/audit" \
        || { cat "$wheels/$1/audit" >&2; exit 1; }
    python -m zipfile -e "$made" "$wheels/$1/unpacked"
    glibc_at_most 2.28 "$wheels/$1"/unpacked/onnxseal/_onnxseal.abi3.so
    echo "wheel for $1: $(stat -c %s "$made") bytes, ${made##*/}"
}

x86_64_wheels() {
    wheel x86_64
    [[ $(uname -m) == x86_64 ]] || return 0
    local fresh=$wheels/fresh
    rm -rf "$fresh"
    python3 -m venv "$fresh"
    "$fresh/bin/python" -m pip install --quiet --disable-pip-version-check "$wheels"/x86_64/*.whl \
        "onnxruntime==$(sed -n 's/^onnxruntime==//p' tests/requirements.txt)" numpy
    timed "main job by the wheel's command" tests/platforms/main_job.sh "$wheels/job" "$fresh/bin/onnxseal"
    "$fresh/bin/python" tests/platforms/session.py "$wheels/job/sealed.onnx" "$wheels/job/other.txt" \
        fixtures/models/digits_cnn.onnx
}

aarch64_wheels() {
    use_arm64_rust
    wheel aarch64
    tests/platforms/arm.sh wheel
}

command_wheels() {
    local built=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/debug/onnxseal
    timed "built: onnxseal for x86-64, glibc 2.17" \
        cargo-zigbuild zigbuild --locked --target x86_64-unknown-linux-gnu.2.17 -p onnxseal --bin onnxseal
    glibc_at_most 2.17 "$built"
    timed "main job by it" tests/platforms/main_job.sh "$wheels/old" "$built"
}

use_rust
use_zig
parts=("$@")
(($#)) || parts=(x86_64 aarch64 command)
for part in "${parts[@]}"; do "${part}_wheels"; done
