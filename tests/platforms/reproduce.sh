#!/usr/bin/env bash
# Builds the command of the last commit twice, in clones in two folders, and compares: the same bytes, or where they differ.
#
#   tests/platforms/reproduce.sh [CARGO-OPTION...]    default: --no-default-features, which takes the least time
#   tests/platforms/reproduce.sh flags                what it sets for a build in this folder, NAME=VALUE a line
#
# Paths of sources and of cargo's registry are in messages of panics and in macros of C: here they are the same wherever the
# folders lie. Times of files are in texts that age embeds: here they are that of the commit. The same bytes come of the same Rust, C compiler and commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# For a build in a folder: flags FOLDER
flags() {
    local home=${CARGO_HOME:-$HOME/.cargo}
    echo "RUSTFLAGS=--remap-path-prefix=$1=/onnxseal --remap-path-prefix=$home=/cargo"
    echo "CFLAGS=-ffile-prefix-map=$1=/onnxseal -ffile-prefix-map=$home=/cargo"
    echo "CARGO_INCREMENTAL=0"
    echo "SOURCE_DATE_EPOCH=$(git -C "$1" log -1 --format=%ct)"
}

if [[ ${1:-} == flags ]]; then
    flags "$PWD"
    exit
fi
options=("$@")
(($#)) || options=(--no-default-features)
work=$PWD/target/platforms/reproduce
# Of different lengths, so that a path left in the program moves what follows.
folders=("$work/here" "$work/in/another/folder")
rm -rf "$work"
start=$SECONDS
for folder in "${folders[@]}"; do
    # The second of the first: the same commit, whatever is committed in between.
    git clone --quiet --shared "${from:-.}" "$folder"
    from=$folder
    (
        mapfile -t set < <(flags "$folder")
        cd "$folder"
        env --unset CARGO_TARGET_DIR "${set[@]}" cargo build --quiet --release --locked -p onnxseal "${options[@]}"
    )
done
programs=("${folders[@]/%//target/release/onnxseal}")
if ! cmp "${programs[@]}"; then
    echo "reproduce: $(cmp -l "${programs[@]}" | wc -l) bytes differ; of the text in the programs:"
    diff <(strings -n 8 "${programs[0]}") <(strings -n 8 "${programs[1]}") | head -20 || true
    exit 1
fi
if strings "${programs[0]}" | grep -F "$work" | head -3 | grep .; then
    echo "reproduce: paths of this machine are in the program"
    exit 1
fi
echo "reproduce: two builds (${options[*]}) have the same $(wc -c <"${programs[0]}") bytes, in $((SECONDS - start)) s:" \
    "sha256 $(sha256sum <"${programs[0]}" | cut -d' ' -f1)"
rm -rf "$work"
