#!/usr/bin/env bash
# Runs the fuzz targets with a fuzzer that sees what an input reaches. It needs nightly Rust and cargo-fuzz, and says so where they
# are missing. What every test run does without them is in tests/corpus.rs.
#
#   tests/fuzz.sh                    every target for 30 seconds
#   tests/fuzz.sh 300 open forged    some of them, for longer
#
# New inputs go to target/fuzz-corpus and are used again; an input that shows a fault lies in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-30}
shift || true
if ! version=$(cargo +nightly fuzz --version 2>/dev/null); then
    echo "fuzz targets skipped: no cargo +nightly fuzz here (rustup toolchain install nightly, cargo install --locked cargo-fuzz)"
    exit
fi
echo "== $version"
targets=("$@")
if ! (($#)); then
    listed=$(cargo +nightly fuzz list)
    readarray -t targets <<<"$listed"
fi
new=${CARGO_TARGET_DIR:-$PWD/target}/fuzz-corpus
for target in "${targets[@]}"; do
    echo "== $target"
    mkdir -p "$new/$target"
    cargo +nightly fuzz run "$target" "$new/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2500 -timeout=60 -verbosity=0 -print_final_stats=1
done
