#!/usr/bin/env bash
# Builds for ARM64 Linux with glibc 2.28, and runs what it built by qemu: the command's main job, models that go to and fro
# between ARM64 and this machine, tests, sessions on ONNX Runtime's library for ARM64, and the C library.
#
#   tests/platforms/arm.sh              all
#   tests/platforms/arm.sh command      the command and its main job alone; or: tests, sessions, c
#   tests/platforms/arm.sh wheel        the wheel that wheels.sh has built
#
# Sealed models go to and fro where this machine's onnxseal is: ONNXSEAL_BIN, target/release/onnxseal, or that of wheels.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/platforms/toolchain.sh
. tests/platforms/zig.sh

TARGET=aarch64-unknown-linux-gnu
GLIBC=2.28
arm=$platforms/arm
qemu=$arm/root/usr/bin/qemu-aarch64-static
libraries=$arm/sysroot

use_arm() {
    use_rust
    use_zig
    use_arm64_rust
    APT_CONFIG=$platforms/apt/apt.conf unpack arm/sysroot libc6:arm64 libgcc-s1:arm64 libstdc++6:arm64
    # qemu shows the file of this machine's processors, and ONNX Runtime ends where it finds none of ARM there.
    local processor
    for ((processor = 0; processor < $(nproc); processor++)); do
        printf '%s\t: %s\n' processor $processor Features 'fp asimd aes pmull sha1 sha2 crc32' 'CPU implementer' 0x41 \
            'CPU architecture' 8 'CPU variant' 0x0 'CPU part' 0xd08 'CPU revision' 3
        echo
    done >"$arm/cpuinfo"
}

# Builds, or has Cargo do something else, for ARM64: cargo_arm COMMAND OPTION...
cargo_arm() {
    local command=$1
    shift
    cargo-zigbuild "$command" --locked --target "$TARGET.$GLIBC" "$@"
}

# Runs a command in a namespace whose kernel hands ARM64's programs to qemu, so that they can start each other; outside it
# nothing changes. Linux 6.7 and newer have that, where user namespaces are allowed.
on_arm() {
    # The header of ELF files for this processor: 64 bits, the lowest byte first, programs with a fixed place and without.
    local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    # shellcheck disable=SC2016
    QEMU_LD_PREFIX=$libraries unshare --user --map-root-user --mount sh -euc '
        mount --bind "$1" /proc/cpuinfo
        shift
        mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
        printf %s "$0" >/proc/sys/fs/binfmt_misc/register
        exec "$@"' ":aarch64:M::$magic:$mask:$qemu:F" "$arm/cpuinfo" "$@"
}

# Whether it can; says so if not: can_run WHAT
can_run() {
    on_arm "$qemu" --version >/dev/null 2>&1 && return
    echo "skipped: $1 (no binfmt_misc for a user namespace: Linux 6.7 has it, where user namespaces are allowed)"
    return 1
}

command_on_arm() {
    local built=$CARGO_TARGET_DIR/$TARGET/debug/onnxseal here=${ONNXSEAL_BIN:-target/release/onnxseal}
    local tool=("$qemu" -L "$libraries" "$built")
    timed "built: onnxseal for $TARGET" cargo_arm zigbuild -p onnxseal --bin onnxseal
    glibc_at_most "$GLIBC" "$built"
    timed "main job on ARM64" tests/platforms/main_job.sh "$arm/job" "${tool[@]}"
    [[ -x $here ]] || here=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/debug/onnxseal
    [[ -x $here ]] || { echo "skipped: models to and fro (no onnxseal of this machine: set ONNXSEAL_BIN)"; return; }
    timed "models to and fro between ARM64 and $(uname -m)" \
        tests/platforms/to_and_fro.sh "$arm/to_and_fro" "$(realpath "$here")" "${tool[@]}"
}

# Two tests limit a program's addresses, of which qemu needs many itself; one injects faults by strace, which would reach qemu.
# Those of memory that is filled on demand say that they skip: qemu has no userfaultfd(2).
NOT_BY_QEMU=(hostile::claims_cost_no_memory hostile::tangles_cost_no_memory
    verify::a_folder_that_cannot_be_read_is_no_empty_folder)

tests_on_arm() {
    can_run "tests on ARM64" || return 0
    local tests=(--lib --test it --test beside --test on_demand --test command -p onnxseal) name skip=()
    for name in store core crypto onnx plan; do tests+=(-p "onnxseal-$name"); done
    for name in "${NOT_BY_QEMU[@]}"; do skip+=(--skip "$name"); done
    timed "built: tests for ARM64" cargo_arm test --no-run "${tests[@]}"
    timed "tests on ARM64" on_arm "$venv/bin/cargo-zigbuild" test --no-fail-fast --locked --target "$TARGET.$GLIBC" "${tests[@]}" \
        -- --exact "${skip[@]}"
}

sessions_on_arm() {
    can_run "sessions on ARM64" || return 0
    local library
    library=$(onnxruntime "$arm" manylinux_2_28_aarch64)
    timed "built: tests of sessions for ARM64" cargo_arm test --no-run -p onnxseal-runtime --test it
    ORT_DYLIB_PATH=$library timed "sessions on ONNX Runtime for ARM64" on_arm "$venv/bin/cargo-zigbuild" test --locked \
        --target "$TARGET.$GLIBC" -p onnxseal-runtime --test it
}

# Two programs in C and C++, linked to the shared library for ARM64: one prints what an opened model holds, one runs it.
c_on_arm() {
    can_run "the C library for ARM64" || return 0
    local built=$CARGO_TARGET_DIR/$TARGET/debug model=fixtures/sealed/valid/digits_cnn.onnx key=fixtures/sealed/keys/id.txt
    local compile=(-target "aarch64-linux-gnu.$GLIBC" -Icrates/capi/include "-L$built") library
    library=$(onnxruntime "$arm" manylinux_2_28_aarch64)
    timed "built: the C library for ARM64" cargo_arm zigbuild -p onnxseal-capi
    glibc_at_most "$GLIBC" "$built/libonnxseal.so"
    tests/ort_headers.sh target/ort-headers
    python -m ziglang cc "${compile[@]}" crates/capi/examples/claims.c -lonnxseal -o "$arm/claims"
    python -m ziglang c++ -std=c++17 "${compile[@]}" -Itarget/ort-headers crates/capi/examples/infer.cc -lonnxseal \
        "$library" -o "$arm/infer"
    # Programs look for libraries by the names in them.
    ln -sf libonnxseal.so "$built/libonnxseal.so.0.1"
    ln -sf "${library##*/}" "${library%/*}/libonnxruntime.so.1"
    local path=$built:${library%/*}
    on_arm env LD_LIBRARY_PATH="$path" "$arm/claims" "$model" "$key" >"$arm/claims.txt"
    grep -qx 'tensor 8.weight type 1 \[32, 384\] 49152 bytes' "$arm/claims.txt"
    echo "a C program on ARM64 opened a model: $(grep -c ^tensor "$arm/claims.txt") tensors"
    on_arm env LD_LIBRARY_PATH="$path" "$arm/infer" "$model" "$key" >"$arm/infer.txt"
    are_scores_of_x86 "$arm/infer.txt"
    echo "a C++ program on ARM64 ran it, with the numbers of x86-64: $(<"$arm/infer.txt")"
}

# In Debian's Python for ARM64.
wheel_on_arm() {
    can_run "the wheel for ARM64" || return 0
    local python=$arm/python site=$arm/site
    APT_CONFIG=$platforms/apt/apt.conf unpack arm/python python3.11-minimal:arm64 libpython3.11-minimal:arm64 \
        libpython3.11-stdlib:arm64 zlib1g:arm64 libexpat1:arm64 libffi8:arm64 libssl3:arm64 libbz2-1.0:arm64 liblzma5:arm64
    cp -an "$libraries/." "$python/"
    rm -rf "$site"
    python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --python-version 3.11 --target "$site" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
        "$platforms"/wheels/aarch64/*.whl numpy "onnxruntime==$(sed -n 's/^onnxruntime==//p' tests/requirements.txt)"
    on_arm env --unset LD_LIBRARY_PATH QEMU_LD_PREFIX="$python" PYTHONHOME="$python/usr" PYTHONPATH="$site" \
        "$python/usr/bin/python3.11" tests/platforms/session.py fixtures/sealed/valid/digits_cnn.onnx \
        fixtures/sealed/keys/id.txt fixtures/models/digits_cnn.onnx
}

use_arm
parts=("$@")
(($#)) || parts=(command tests sessions c)
for part in "${parts[@]}"; do "${part}_on_arm"; done
