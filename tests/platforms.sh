#!/usr/bin/env bash
# Builds for other systems than this one, from packages alone, and runs what it built where this machine can: Windows by wine,
# ARM by qemu. docs/PLATFORMS.md says what that proves.
#
#   tests/platforms.sh                    all
#   tests/platforms.sh windows check      parts, in their order: windows, arm, wheels, check, package, reproduce
#   tests/platforms.sh quick              what .ci/run has time for: the command for Windows without ONNX Runtime, its main job,
#                                         and the tests of files there
#
# Needs Debian's apt-get for the packages (it installs none), Rust, Python and network. Everything goes to target/platforms: 6 GB.
# A part that this machine cannot run says so in a line that begins with `skipped`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

parts=("$@")
(($#)) || parts=(windows arm wheels check package reproduce)
mkdir -p target/platforms
for part in "${parts[@]}"; do
    echo "== $part"
    case $part in
    quick) tests/platforms/windows.sh quick ;;
    windows | arm | wheels | check | package | reproduce) "tests/platforms/$part.sh" ;;
    *)
        echo "tests/platforms.sh: there is no part $part" >&2
        exit 2
        ;;
    esac
done
