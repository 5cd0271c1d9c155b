#!/usr/bin/env bash
# Makes the files of a release, and tries them as whoever downloads them would. release.yml runs it, and so do the tests.
#
#   tests/platforms/package.sh                    all for this machine, in target/platforms/package
#   tests/platforms/package.sh OUT PART...        some, in their order:
#       command, library, wheel    built for TARGET (default: this machine), and packed
#       source                     the source distribution for Python
#       kit                        what checks readers that others write
#       bills                      for each archive in OUT what it is built of, as CycloneDX
#       sums                       SHA256SUMS of all files in OUT, signed by SIGNING_KEY if that names an OpenSSH private key
#       notes                      prints the release's text
#       check                      unpacks what OUT has for TARGET, and runs it; verifies the rest
#
# TARGET may end in a glibc, such as x86_64-unknown-linux-gnu.2.28: then zig links, for systems with that glibc or a newer one.
# Builds are cargo's, in CARGO_TARGET_DIR; what stands there is not built again. FEATURES are those of the command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/platforms/toolchain.sh
. tests/platforms/zig.sh

PYTHON=${PYTHON:-python3}
FEATURES=${FEATURES-object-store}
NAMESPACE=onnxseal-release
CYCLONEDX=0.5.9

out=${1:-target/platforms/package}
mkdir -p "$out"
out=$(cd "$out" && pwd)
parts=("${@:2}")
((${#parts[@]})) || parts=(command library kit bills sums check)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
host=$(rustc -vV | sed -n 's/^host: //p')
triple=${TARGET:-$host}
glibc=
if [[ $triple == *-gnu.* ]]; then
    glibc=${triple#*-gnu.} triple=${triple%%.*}
fi
# What is built for this system needs its glibc, whichever that is.
newest=${glibc:-any}
build=(cargo build) run=(cargo run)
tools=$PWD/target/platforms/package-venv/bin
[[ $host != *windows* ]] || tools=${tools%bin}Scripts
built=${CARGO_TARGET_DIR:-target}/${TARGET:+$triple/}release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() {
    printf 'package: %s\n' "$*"
}

fail() {
    printf 'package.sh: %s\n' "$*" >&2
    exit 1
}

# Puts tools of Python's registry into an environment of their own: need_tools REQUIREMENT...
need_tools() {
    [[ -x $tools/python ]] || "$PYTHON" -m venv "${tools%/*}"
    "$tools/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: "$@"
}

# Packs a folder below $work: pack NAME SUFFIX
pack() {
    cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$work/$1/"
    "$PYTHON" tests/platforms/archive.py "$work/$1" "$out/$1$2"
    rm -r "${work:?}/$1"
    say "$1$2: $(wc -c <"$out/$1$2") bytes"
}

make_command() {
    local name=onnxseal-$version-$triple exe='' suffix=.tar.gz
    if [[ $triple == *windows* ]]; then
        exe=.exe suffix=.zip
    fi
    "${build[@]}" --quiet --release --locked -p onnxseal --features "$FEATURES" ${TARGET:+--target "$TARGET"}
    mkdir -p "$work/$name"
    cp "$built/onnxseal$exe" "$work/$name/"
    # A program for this machine writes them: the one that is built, if it is for this machine, spares a second build.
    local native=()
    [[ $triple != "$host" ]] || native=(--release ${TARGET:+--target "$TARGET"})
    "${run[@]}" --quiet --locked "${native[@]}" --features "$FEATURES" --example shell_files -- "$work/$name/shell"
    pack "$name" "$suffix"
}

make_library() {
    local name=onnxseal-capi-$version-$triple
    crates/capi/install.sh "$work/$name" --quiet --locked ${TARGET:+--target "$TARGET"}
    # Names for debuggers, of Rust's own library for the most part.
    objcopy --strip-debug "$work/$name/lib/libonnxseal.a"
    mkdir "$work/$name/examples"
    cp crates/capi/examples/* "$work/$name/examples/"
    cp crates/capi/README.md "$work/$name/CAPI.md"
    pack "$name" .tar.gz
}

make_wheel() {
    need_tools maturin==1.16.0
    local options=(${TARGET:+--target "$triple"})
    [[ -z $glibc ]] || options+=(--zig --compatibility "manylinux_${glibc/./_}")
    "$tools/maturin" build --quiet --release --locked --manifest-path crates/python/Cargo.toml --out "$out" "${options[@]}"
    say "$(cd "$out" && wc -c -- *.whl | head -1)"
}

make_source() {
    need_tools maturin==1.16.0
    "$tools/maturin" sdist --manifest-path crates/python/Cargo.toml --out "$out"
}

make_kit() {
    local name=onnxseal-conformance-$version
    mkdir -p "$work/$name/vectors"
    cp fixtures/conformance.py docs/FORMAT.md "$work/$name/"
    cp -r fixtures/sealed "$work/$name/"
    cp fixtures/vectors/*.json "$work/$name/vectors/"
    cp fixtures/README.md "$work/$name/FIXTURES.md"
    pack "$name" .tar.gz
}

find_cyclonedx() {
    cyclonedx=target/platforms/cyclonedx/bin/cargo-cyclonedx
    [[ -x $cyclonedx ]] || cyclonedx=$(command -v cargo-cyclonedx) ||
        { cargo install --quiet --debug --locked --root target/platforms/cyclonedx "cargo-cyclonedx@$CYCLONEDX" &&
            cyclonedx=target/platforms/cyclonedx/bin/cargo-cyclonedx; }
    cyclonedx=$(realpath "$cyclonedx")
}

# The tool writes beside each manifest, so it gets a copy of the sources.
make_bills() {
    find_cyclonedx
    mkdir "$work/source"
    git archive HEAD -- . ':!docs' ':!fixtures' | tar -x -C "$work/source"
    local archive name package target features made=0
    for archive in "$out"/*.{tar.gz,zip,whl}; do
        name=${archive##*/} target=all features=
        case $name in
        '*'* | onnxseal-conformance-*) continue ;;
        onnxseal-capi-*) package=crates/capi target=${name#"onnxseal-capi-$version-"} ;;
        onnxseal-*-*-*.tar.gz | *.zip) package=. target=${name#"onnxseal-$version-"} features=$FEATURES ;;
        *) package=crates/python ;;
        esac
        target=${target%.tar.gz} target=${target%.zip}
        "$cyclonedx" cyclonedx --quiet --manifest-path "$work/source/$package/Cargo.toml" --features "$features" --target "$target" \
            --format json --spec-version 1.5 --override-filename bill
        sed "s|$work/source|.|g" "$work/source/$package/bill.json" >"$out/$name.cdx.json"
        made=$((made + 1))
    done
    say "$made bills of materials"
}

make_sums() {
    rm -f "$out"/SHA256SUMS*
    (cd "$out" && sha256sum -- *) >"$work/SHA256SUMS"
    mv "$work/SHA256SUMS" "$out/"
    if [[ -n ${SIGNING_KEY:-} ]]; then
        ssh-keygen -q -Y sign -n "$NAMESPACE" -f "$SIGNING_KEY" "$out/SHA256SUMS"
        say "SHA256SUMS of $(wc -l <"$out/SHA256SUMS") files, signed"
    else
        say "SHA256SUMS of $(wc -l <"$out/SHA256SUMS") files, not signed: SIGNING_KEY is not set"
    fi
}

make_notes() {
    echo "[CHANGELOG](CHANGELOG.md) says what is new, [docs/RELEASE.md](docs/RELEASE.md) how to check what you download." |
        sed "s|](|](https://github.com/onnxseal/onnxseal/blob/v$version/|g"
    echo
    echo "No test of this project runs the files for apple-darwin, macosx and win_amd64: they were compiled, and did one job each."
    [[ -f $out/SHA256SUMS.sig ]] || printf '\n**SHA256SUMS is not signed**: the key was not there.\n'
}

# What is in an archive of OUT, in $work: unpack_archive NAME
unpack_archive() {
    tar -xzf "$out/$1.tar.gz" -C "$work"
    [[ -f $work/$1/README.md ]] || fail "$1.tar.gz has no README.md"
}

check_command() {
    local name=onnxseal-$version-$triple tool
    [[ -f $out/$name.tar.gz ]] || return 0
    unpack_archive "$name"
    tool=$work/$name/onnxseal
    [[ $("$tool" --version) == "onnxseal $version" ]]
    "$tool" keygen -o "$work/id.txt" >"$work/id.pub"
    "$tool" protect --quiet fixtures/models/digits_cnn.onnx -o "$work/sealed.onnx" -R "$work/id.pub" --claim customer=acme
    "$tool" --quiet unprotect "$work/sealed.onnx" -i "$work/id.txt" -o "$work/restored.onnx"
    cmp fixtures/models/digits_cnn.onnx "$work/restored.onnx"
    [[ -s $work/$name/shell/onnxseal.bash && -s $work/$name/shell/onnxseal-protect.1 && -s $work/$name/LICENSE-MIT ]]
    check_runtime "$tool"
    say "$name: protected and unprotected a model"
    glibc_at_most "$newest" "$tool"
}

# A static program could not load ONNX Runtime.
check_runtime() {
    need_tools onnxruntime==1.32.0
    runtime=$(echo "${tools%/*}"/lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.*)
    "$1" inputs keygen --block 4 --range 0..1 -o "$work/input.key" 2>"$work/said"
    # It says so where it cannot compare the model with the original.
    ORT_DYLIB_PATH=$runtime "$1" inputs rewrite fixtures/inputs/convmixer.onnx --key "$work/input.key" -o "$work/keyed.onnx" \
        >"$work/said" 2>&1 && grep -q 'compared on ONNX Runtime' "$work/said" || fail "no comparison on ONNX Runtime: $(<"$work/said")"
}

# On the model that the command has protected.
check_library() {
    local name=onnxseal-capi-$version-$triple lib program tried=
    [[ -f $work/sealed.onnx && -f $out/$name.tar.gz ]] || return 0
    unpack_archive "$name"
    lib=$work/$name
    readelf -d "$lib/lib/libonnxseal.so" | grep -q "SONAME.*\[libonnxseal.so.${version%.*}\]" || fail "no SONAME"
    export PKG_CONFIG_PATH=$lib/lib/pkgconfig
    config() { pkg-config "$@" onnxseal; }
    local c=(gcc -std=c11 -Wall -Wextra -Werror "$lib/examples/claims.c") cc=(g++ -std=c++17 -Wall -Wextra)
    local rpath
    rpath=-Wl,-rpath,$(config --variable=libdir)
    # Word by word, as in a makefile.
    # shellcheck disable=SC2046
    {
        "${c[@]}" $(config --cflags --libs) "$rpath" -o "$work/c-shared"
        "${c[@]}" $(config --cflags) $(config --variable=static_libs) -o "$work/c-static"
        "${cc[@]}" -x c++ "$lib/examples/claims.c" $(config --cflags --libs) "$rpath" -o "$work/cc-shared"
        # As pkg-config has it, where there is no shared library to prefer.
        mkdir "$work/only" && cp "$lib/lib/libonnxseal.a" "$work/only/"
        "${c[@]}" -L"$work/only" $(config --cflags --static --libs-only-l) -o "$work/c-private"
    }
    check_cmake "$lib"
    check_session "$lib" "$rpath"
    for program in "$work"/c{,c}-{shared,static,private} "$work"/cmake/c{,c}-{shared,static}; do
        [[ -x $program ]] || continue
        "$program" "$work/sealed.onnx" "$work/id.txt" >"$work/said"
        grep -q '^claim customer=acme$' "$work/said" || fail "$program: $(<"$work/said")"
        if [[ $program == *-shared ]]; then
            readelf -d "$program" | grep -q 'NEEDED.*libonnxseal.so' || fail "$program has no shared library"
        else
            ! readelf -d "$program" | grep -q 'NEEDED.*libonnxseal' || fail "$program needs the shared library"
        fi
        tried+=" ${program#"$work/"}"
    done
    say "$name: compiled and ran$tried"
    glibc_at_most "$newest" "$lib/lib/libonnxseal.so"
}

# A session in C++, on the library of ONNX Runtime that check_runtime found.
check_session() {
    tests/ort_headers.sh target/ort-headers 2>"$work/said" || { say "skipped: $(tail -1 "$work/said")"; return; }
    mkdir "$work/ort"
    ln -s "$runtime" "$work/ort/libonnxruntime.so"
    ln -s "$runtime" "$work/ort/libonnxruntime.so.1"
    # shellcheck disable=SC2046
    g++ -std=c++17 -Itarget/ort-headers "$1/examples/infer.cc" $(config --cflags --libs) "$2" -L"$work/ort" -lonnxruntime \
        -Wl,-rpath,"$work/ort" -o "$work/infer"
    "$work/infer" "$work/sealed.onnx" "$work/id.txt" >"$work/said"
    grep -q '\[1, 10\] sum' "$work/said" || fail "no answer in $(<"$work/said")"
    tried+=" infer"
}

check_cmake() {
    local cmake
    cmake=$(command -v cmake) || { need_tools cmake==4.4.5 && cmake=$tools/cmake; } ||
        { say "skipped: no cmake, and none to be had from PyPI"; return; }
    mkdir "$work/programs"
    cat >"$work/programs/CMakeLists.txt" <<CMAKE
cmake_minimum_required(VERSION 3.16)
project(programs C CXX)
find_package(onnxseal ${version%.*} REQUIRED)
configure_file($1/examples/claims.c claims.cc COPYONLY)
foreach(kind shared static)
  add_executable(c-\${kind} $1/examples/claims.c)
  add_executable(cc-\${kind} \${CMAKE_CURRENT_BINARY_DIR}/claims.cc)
endforeach()
foreach(language c cc)
  target_link_libraries(\${language}-shared onnxseal::onnxseal)
  target_link_libraries(\${language}-static onnxseal::static)
endforeach()
CMAKE
    "$cmake" -S "$work/programs" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$1" >"$work/said" &&
        "$cmake" --build "$work/cmake" >>"$work/said" || fail "$(tail -20 "$work/said")"
}

check_kit() {
    local name=onnxseal-conformance-$version tool=$work/onnxseal-$version-$triple/onnxseal
    [[ -x $tool && -f $out/$name.tar.gz ]] || return 0
    unpack_archive "$name"
    "$PYTHON" "$work/$name/conformance.py" --without now "$tool" unprotect >"$work/said" || fail "$(<"$work/said")"
    say "$name: $(<"$work/said")"
}

check_wheel() {
    local wheel
    for wheel in "$out"/*"${glibc:+manylinux_${glibc/./_}_}${triple%%-*}"*.whl; do
        [[ -f $wheel ]] || continue
        need_tools "$wheel"
        "$tools/python" -c 'import onnxseal; print("package:", onnxseal.generate_identity().recipient)' >"$work/said"
        [[ $("$tools/onnxseal" --version) == "onnxseal $version" ]]
        say "${wheel##*/}: installed, imported, run"
    done
}

check_bills() {
    compgen -G "$out/*.cdx.json" >/dev/null || return 0
    need_tools 'cyclonedx-python-lib[json-validation]==11.12.0'
    "$tools/python" - "$out"/*.cdx.json <<'PYTHON'
import json, pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
for path in map(pathlib.Path, sys.argv[1:]):
    text = path.read_text()
    fault = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    parts = json.loads(text)["components"]
    assert not fault, f"{path}: {fault}"
    assert any(part["name"] == "age" for part in parts) and "/tmp/" not in text, path
    print(f"package: {path.name}: valid CycloneDX 1.5, {len(parts)} components")
PYTHON
}

# The lines of docs/RELEASE.md, with a key of this check's own where there is none.
check_sums() {
    [[ -f $out/SHA256SUMS ]] || return 0
    (cd "$out" && sha256sum --quiet -c SHA256SUMS)
    local key=${SIGNING_KEY:-} sums=$work/SHA256SUMS
    cp "$out"/SHA256SUMS* "$work/"
    if [[ -z $key ]]; then
        key=$work/key
        ssh-keygen -q -t ed25519 -N '' -f "$key"
        ssh-keygen -q -Y sign -n "$NAMESPACE" -f "$key" "$sums"
    fi
    echo "release@onnxseal namespaces=\"$NAMESPACE\" $(ssh-keygen -y -f "$key")" >"$work/signers"
    local verify=(ssh-keygen -Y verify -f "$work/signers" -I release@onnxseal -n "$NAMESPACE" -s "$sums.sig")
    "${verify[@]}" -q <"$sums"
    ! { sed 's/^./0/; t; s/^/1/' "$sums" && echo; } | "${verify[@]}" -q 2>/dev/null || fail "a changed SHA256SUMS has its signature"
    say "SHA256SUMS: sums hold, the signature too, and for a changed file it does not"
}

check() {
    check_command
    check_library
    check_wheel
    check_kit
    check_bills
    check_sums
}

if [[ -n $glibc ]]; then
    use_zig
    build=(cargo-zigbuild zigbuild) run=(cargo-zigbuild run)
fi
for part in "${parts[@]}"; do
    case $part in
    command | library | wheel | source | kit | bills | sums | notes) "make_$part" ;;
    check) check ;;
    *) fail "no such part: $part" ;;
    esac
done
