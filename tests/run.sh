#!/usr/bin/env bash
# Builds everything and runs all tests: Rust's, and those in Python that judge the built tool with ONNX's own checker, ONNX
# Runtime and a second implementation of the format, and on models in an S3 server of its own; and those of the TypeScript
# package, where Node is. Needs Rust and Python 3.11 or newer with venv; the first run needs network.
#
#   tests/run.sh                      all
#   tests/run.sh -k accuracy          arguments go to pytest
#   PYTHON=python3.12 tests/run.sh    another Python
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}

fail() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 2
}

check_tools() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust, see https://rustup.rs"
    command -v "$PYTHON" >/dev/null || fail "$PYTHON is missing (Debian, Ubuntu: apt install python3 python3-venv)"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || fail "Python 3.11 or newer is needed, $PYTHON is $("$PYTHON" --version 2>&1)"
    # Debian ships venv without ensurepip, which is what fails then.
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null \
        || fail "$PYTHON has no venv (Debian, Ubuntu: apt install $("$PYTHON" -c \
            'import sys; print("python3.%d-venv" % sys.version_info[1])'))"
}

# Makes .venv anew when the Python or the requirements are others than it was made with.
make_venv() {
    local wanted
    wanted=$({ "$PYTHON" -c 'import sys; print(sys.version, sys.prefix)'; cat tests/requirements.txt; } | cksum)
    if [[ -x .venv/bin/python && -f .venv/stamp && $(<.venv/stamp) == "$wanted" ]]; then
        return
    fi
    echo "== .venv"
    rm -rf .venv
    "$PYTHON" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
    printf '%s\n' "$wanted" >.venv/stamp
}

# Builds the wheel and installs it into .venv. With these features Cargo takes the crates below the package as the tests have
# built them.
make_wheel() {
    local wheels
    wheels=$(mktemp -d)
    .venv/bin/maturin build --quiet --release --manifest-path crates/python/Cargo.toml --interpreter .venv/bin/python \
        --features object-store,onnxseal/default,onnxseal-assess/default,onnxseal-core/default --out "$wheels"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheels"/*.whl
    rm -r "$wheels"
}

has_node() {
    command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'
}

# Fetches what the tests need beside what Cargo builds.
fetch() {
    make_venv
    # Arguments are for pytest: who gives some wants these tests alone.
    (($#)) && return
    tests/onnxruntime_versions.sh fetch
    if has_node; then
        (cd web && npm ci --ignore-scripts --no-audit --no-fund --silent)
    fi
}

test_web() {
    if ! has_node; then
        echo "skipped: Node 20 or newer with npm is missing (Debian, Ubuntu: apt install npm)"
        return
    fi
    (cd web && ONNXSEAL_BIN=${ONNXSEAL_BIN:-${CARGO_TARGET_DIR:-target}/release/onnxseal} npm test --silent)
}

check_tools
# One build for all tests: the one with object stores, which is the other with more in it. Two packages are left for later,
# because Cargo would build others with more features beside them: the Python package, and the generator of ONNX's types.
build=(cargo test --release --workspace --exclude onnxseal-python --exclude onnxseal-proto --features object-store)
echo "== cargo test"
fetch "$@" &
"${build[@]}" --no-run
wait $!
# The library for the tests that make sessions, unless it is given.
if [[ -z ${ORT_DYLIB_PATH:-} ]]; then
    ORT_DYLIB_PATH=$(.venv/bin/python -c 'import glob, importlib.util as u
print(*glob.glob(u.find_spec("onnxruntime").submodule_search_locations[0] + "/capi/libonnxruntime.*.*"))')
    export ORT_DYLIB_PATH
fi
"${build[@]}"
cargo test --release -p onnxseal-proto
echo "== cargo test, without object stores"
cargo test --release -p onnxseal-store --lib
echo "== the Python package"
make_wheel
echo "== pytest"
target=${CARGO_TARGET_DIR:-target}
# The files of tests in two processes, in their order: a few tests take long, none of them at the end.
ONNXSEAL_BIN=${ONNXSEAL_BIN:-$target/release/onnxseal} .venv/bin/python -m pytest -p no:cacheprovider tests/python \
    -n 2 --dist loadfile --no-loadscope-reorder "$@"
(($#)) && exit
# Side by side: each runs its tests one by one.
said=$(mktemp)
test_web >"$said" 2>&1 &
tests/onnxruntime_versions.sh
wait $! && failed=0 || failed=$?
echo "== the TypeScript package"
cat "$said"
rm "$said"
exit "$failed"
