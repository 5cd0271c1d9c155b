#!/usr/bin/env bash
# Builds the library, static and shared, and installs it with its header and its files for pkg-config and CMake.
#
#   crates/capi/install.sh PREFIX [CARGO-OPTION...]     such as --features object-store, --target aarch64-unknown-linux-gnu
set -euo pipefail

[[ $# -ge 1 ]] || { echo "usage: crates/capi/install.sh PREFIX [CARGO-OPTION...]" >&2; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# The number in the bytes of FILE from OFFSET on, the lowest first: number FILE OFFSET LENGTH
number() {
    local value=0 scale=1 byte
    for byte in $(od -An -v -tu1 -j"$2" -N"$3" "$1"); do
        value=$((value + byte * scale)) scale=$((scale * 256))
    done
    echo "$value"
}

# The processor that a library is for, as its header says.
machine() {
    case $(od -An -v -tx1 -N4 "$1" | tr -d ' \n') in
    7f454c46) # ELF
        case $(number "$1" 18 2) in
        3) echo i686 ;;
        40) echo arm ;;
        62) echo x86_64 ;;
        183) echo aarch64 ;;
        243) echo riscv64 ;;
        258) echo loongarch64 ;;
        *) echo unknown ;;
        esac
        ;;
    cffaedfe) # Mach-O
        case $(number "$1" 4 4) in
        16777223) echo x86_64 ;;
        16777228) echo aarch64 ;;
        *) echo unknown ;;
        esac
        ;;
    *) echo unknown ;;
    esac
}

# For what it is built: what was asked for, else this machine.
wanted=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
previous=
for option in "$@"; do
    if [[ $previous == --target ]]; then wanted=$option; fi
    if [[ $option == --target=* ]]; then wanted=${option#--target=}; fi
    previous=$option
done
case $wanted in
arm64* | aarch64*) expected=aarch64 ;;
arm* | thumb*) expected=arm ;;
i[3-6]86*) expected=i686 ;;
riscv64*) expected=riscv64 ;;
*) expected=${wanted%%-*} ;;
esac

capi=crates/capi
version=$(cargo pkgid -p onnxseal-capi | sed 's/.*[#@]//')
# As build.rs has it.
abi=${version%%.*}
[[ $abi != 0 ]] || abi=${version%.*}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
builder=(cargo rustc)
# With the oldest glibc that the library is to run with after the target, zig links.
[[ $wanted != *-gnu.* ]] || builder=(cargo-zigbuild rustc)
# cargo says where it puts the libraries, and rustc which of the system's libraries the static one needs.
"${builder[@]}" --color never --release -p onnxseal-capi --lib --message-format=json-render-diagnostics "$@" \
    -- --print native-static-libs 2>&1 >"$work/made" | tee "$work/said" >&2
native=$(sed -n 's/^note: native-static-libs: //p' "$work/said" | tail -1)
files=$(grep '"reason":"compiler-artifact"' "$work/made" | grep 'onnxseal-capi' | tail -1 |
    sed 's/.*"filenames":\["\([^]]*\)"\].*/\1/; s/","/\n/g')
static=$(grep '/libonnxseal\.a$' <<<"$files") || fail "no static library came of it; Windows is not for this script"
shared=$(grep -E '/libonnxseal\.(so|dylib)$' <<<"$files") || fail "$wanted has no shared libraries"
found=$(machine "$shared")
[[ $found == "$expected" ]] || fail "$shared is for $found processors, and $wanted was wanted: name it with --target"

if [[ $shared == *.dylib ]]; then
    versioned=libonnxseal.$version.dylib current=libonnxseal.$abi.dylib plain=libonnxseal.dylib soname=@rpath/$current
else
    versioned=libonnxseal.so.$version current=libonnxseal.so.$abi plain=libonnxseal.so soname=$current
fi
mkdir -p "$prefix"/{include,lib/pkgconfig,lib/cmake/onnxseal}
install -m 644 $capi/include/onnxseal.h "$prefix/include/"
install -m 644 "$static" "$prefix/lib/"
install -m 755 "$shared" "$prefix/lib/$versioned"
ln -sf "$versioned" "$prefix/lib/$current"
ln -sf "$current" "$prefix/lib/$plain"

# CMake wants a list, in which a framework is one item.
native_list=$(sed 's/-framework /-framework@/g; s/^ *//; s/ *$//; s/  */;/g; s/@/ /g' <<<"$native")
fill() {
    sed -e "s|@VERSION@|$version|" -e "s|@ABI@|$abi|" -e "s|@SHARED@|$versioned|" \
        -e "s|@SONAME@|$soname|" -e "s|@NATIVE_LIBS@|$native|" -e "s|@NATIVE_LIST@|$native_list|" "$1" >"$2"
}
fill $capi/onnxseal.pc.in "$prefix/lib/pkgconfig/onnxseal.pc"
fill $capi/onnxseal-config.cmake.in "$prefix/lib/cmake/onnxseal/onnxseal-config.cmake"
fill $capi/onnxseal-config-version.cmake.in "$prefix/lib/cmake/onnxseal/onnxseal-config-version.cmake"
