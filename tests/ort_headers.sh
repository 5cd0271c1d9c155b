#!/usr/bin/env bash
# Puts ONNX Runtime's C and C++ headers into a folder, from Debian's package libonnxruntime-dev: Python's package, whose
# library the tests use, comes without them. Debian's own keys vouch for what is fetched; the system's package lists and
# packages stay as they are.
#
#   tests/ort_headers.sh FOLDER     prints nothing; FOLDER/onnxruntime_c_api.h and others are there afterwards
#   DEBIAN_MIRROR=URL               another mirror than the one this system has its packages from
set -euo pipefail

PACKAGE=libonnxruntime-dev
SUITE=trixie
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    printf 'tests/ort_headers.sh: %s\n' "$*" >&2
    exit 1
}

[[ $# == 1 ]] || fail "usage: tests/ort_headers.sh FOLDER"
folder=$1
[[ ! -f $folder/onnxruntime_c_api.h ]] || exit 0
command -v apt-get >/dev/null || fail "no apt-get here to fetch $PACKAGE with"
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' | sed -n 's/^Debian \(.*[^/]\)\/*$/\1/p' | head -n 1)}
[[ -n $mirror ]] || fail "this system has no packages of Debian's: set DEBIAN_MIRROR"
[[ -f $KEYS ]] || fail "no $KEYS here to check $PACKAGE with"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,parts,unpacked}
touch "$work/status"
echo "deb [signed-by=$KEYS] $mirror $SUITE main" >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "$work/parts";
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "$(id -un)";
APT::Update::Post-Invoke-Success "";
Acquire::Languages "none";
CONF
export APT_CONFIG=$work/apt.conf
apt-get update -qq >&2 || fail "the package lists of $SUITE cannot be fetched"
(cd "$work" && apt-get download -qq "$PACKAGE" >&2) || fail "$PACKAGE of $SUITE cannot be fetched"
dpkg -x "$work"/"$PACKAGE"_*.deb "$work/unpacked"
# Whole or not at all.
mkdir -p "$(dirname "$folder")"
mv "$work/unpacked/usr/include/onnxruntime" "$folder.new.$$"
mv -T "$folder.new.$$" "$folder"
