#!/usr/bin/env bash
# Builds the library, static and shared, and installs it with its header and pkg-config file.
#
#   crates/capi/install.sh PREFIX [CARGO-OPTION...]     such as --features object-store
set -euo pipefail

[[ $# -ge 1 ]] || { echo "usage: crates/capi/install.sh PREFIX [CARGO-OPTION...]" >&2; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

capi=crates/capi
target=${CARGO_TARGET_DIR:-target}
version=$(cargo pkgid -p onnxseal-capi | sed 's/.*[#@]//')
# As build.rs has it.
abi=${version%%.*}
[[ $abi != 0 ]] || abi=${version%.*}

# Which of the system's libraries the static one needs is up to the Rust it was built with.
cargo rustc --release -p onnxseal-capi --lib "$@" -- --print native-static-libs 2>&1 | tee "$prefix/.build" >&2
native=$(sed -n 's/^note: native-static-libs: //p' "$prefix/.build" | tail -1)
rm "$prefix/.build"

mkdir -p "$prefix"/{include,lib/pkgconfig}
install -m 644 $capi/include/onnxseal.h "$prefix/include/"
install -m 644 "$target/release/libonnxseal.a" "$prefix/lib/"
if [[ $(uname) == Darwin ]]; then
    shared=libonnxseal.$version.dylib current=libonnxseal.$abi.dylib plain=libonnxseal.dylib
else
    shared=libonnxseal.so.$version current=libonnxseal.so.$abi plain=libonnxseal.so
fi
install -m 755 "$target/release/$plain" "$prefix/lib/$shared"
ln -sf "$shared" "$prefix/lib/$current"
ln -sf "$current" "$prefix/lib/$plain"
sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" -e "s|@NATIVE_LIBS@|$native|" $capi/onnxseal.pc.in \
    >"$prefix/lib/pkgconfig/onnxseal.pc"
