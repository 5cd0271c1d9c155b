# shellcheck shell=bash
# Sourced from the repository's root: what builds for other systems, unpacked from Debian's packages into target/platforms. The
# system's own Rust and its packages stay as they are.

platforms=$PWD/target/platforms

# Runs a command quietly and says how long it took, and how many tests passed; what it printed only if it fails:
# timed WHAT COMMAND...
timed() {
    local what=$1 began=$SECONDS said=$platforms/said.$$
    shift
    if "$@" >"$said" 2>&1; then
        echo "$what: $((SECONDS - began)) s$(awk '/^test result: ok/ { n += $4 } END { if (n) print ", " n " passed" }' "$said")"
        rm "$said"
    else
        cat "$said" >&2
        echo "failed after $((SECONDS - began)) s: $what" >&2
        exit 1
    fi
}

# Ends this part with a line that says why: skip WHAT IS MISSING
skip() {
    echo "skipped: $*"
    exit 0
}

# Unpacks packages into a folder, once: unpack FOLDER PACKAGE...
unpack() {
    local root=$platforms/$1 debs
    shift
    [[ -e $root/ready ]] && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "Debian's packages (no apt-get or no dpkg)"
    rm -rf "$root"
    debs=$(mktemp -d)
    mkdir -p "$root"
    # The lists of a machine that has never looked are empty.
    (cd "$debs" && apt-get download -qq "$@" 2>/dev/null || { apt-get update -qq && apt-get download -qq "$@"; }) \
        || skip "packages that apt-get cannot download here: $*"
    for package in "$debs"/*.deb; do dpkg -x "$package" "$root"; done
    rm -r "$debs"
    touch "$root/ready"
}

# A Rust with its library's source, from which -Zbuild-std makes the library for any target.
use_rust() {
    unpack rust rustc-web cargo-web rust-web-src libstd-rust-web-1.96 libstd-rust-web-dev libllvm22 libgit2-1.5 \
        libhttp-parser2.9 libmbedcrypto7 libmbedx509-1 libmbedtls14 libssh2-1
    export PATH="$platforms/rust/usr/bin:$PATH" LD_LIBRARY_PATH="$platforms/rust/usr/lib/x86_64-linux-gnu"
    # Debian's is a stable Rust: -Z needs leave.
    export RUSTC_BOOTSTRAP=1
    # As little as possible beside the code.
    export CARGO_TARGET_DIR=$platforms/build CARGO_INCREMENTAL=0
    export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
}

# Reads ONNX Runtime's wheel for a platform, and prints the path of its library: onnxruntime FOLDER PLATFORM
onnxruntime() {
    # That of tests/requirements.txt.
    local version
    version=$(sed -n 's/^onnxruntime==//p' tests/requirements.txt)
    if [[ ! -d $1/onnxruntime ]]; then
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --platform "$2" --python-version 3.11 --dest "$1" "onnxruntime==$version" >&2
        python3 -m zipfile -e "$1/onnxruntime-$version"-*"$2"*.whl "$1"
    fi
    find "$1/onnxruntime/capi" -type f \( -name 'libonnxruntime.so.*' -o -name onnxruntime.dll \)
}

# Fails unless the file has what ONNX Runtime for x86-64 on Linux computes of zeros, as the C++ example prints it: kernels for
# other processors add in another order.
are_scores_of_x86() {
    awk '{ ok = $1 == "scores" && near($5, -1.70783712) && near($8, 1.23574997) } END { exit !ok }
        function near(found, wanted) { return (found - wanted) ^ 2 < 1e-10 }' "$1" \
        || { echo "other numbers than on x86-64 Linux: $(<"$1")" >&2; exit 1; }
}
