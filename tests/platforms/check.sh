#!/usr/bin/env bash
# Checks with the compiler alone, warnings denied, that the code compiles for systems for which nothing here links or runs it.
# Says a line for each target that passed.
#
#   tests/platforms/check.sh              all targets
#   tests/platforms/check.sh TARGET...    some of them, such as aarch64-apple-darwin
#
# Not checked, because it needs a C compiler for the target: the feature aws-lc. The portable back end is in its place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

. tests/platforms/toolchain.sh
use_rust
export CARGO_TARGET_DIR=$platforms/check CARGO_PROFILE_DEV_OPT_LEVEL=0
# Nobody uses code that would be made: of the crates, and of Rust's library, which is built for each target.
export RUSTFLAGS="-D warnings -Zno-codegen"
# blake3 without its parts in C and assembly.
export CARGO_FEATURE_PURE=1

COMMAND=(-p onnxseal -p onnxseal-capi --no-default-features
    --features "onnxseal/assess onnxseal/fingerprint onnxseal/inputs onnxseal/labels")
DEVICE=(-p onnxseal-core -p onnxseal-crypto -p onnxseal-runtime -p onnxseal-capi --no-default-features)

# check TARGET WHAT CARGO-OPTION...
check() {
    local target=$1 what=$2 since=$SECONDS
    shift 2
    nice -n 5 cargo check --quiet --locked -j2 -Zbuild-std=std,panic_abort --target "$target" "$@"
    echo "compiled, never run: $target: $what, $((SECONDS - since)) s"
}

targets=("$@")
(($#)) || targets=(aarch64-apple-darwin x86_64-pc-windows-msvc aarch64-linux-android aarch64-apple-ios wasm32-wasip1)
for target in "${targets[@]}"; do
    case $target in
    *-apple-darwin | *-windows-*)
        check "$target" "the command with assess, fingerprint, inputs and labels; the C library" "${COMMAND[@]}"
        ;;
    *-android | *-ios)
        check "$target" "core, crypto, runtime and the C library, which open models" "${DEVICE[@]}"
        check "$target" "the C library with inputs, labels and ep-context" \
            -p onnxseal-capi --no-default-features --features ep-context,inputs,labels
        ;;
    wasm32-*)
        check "$target" "core, which opens models" -p onnxseal-core --no-default-features
        check "$target" "core, which protects them" -p onnxseal-core --no-default-features --features protect
        ;;
    *)
        echo "check.sh: $target is no target of this script" >&2
        exit 2
        ;;
    esac
done
