#!/usr/bin/env bash
# Builds for Windows by mingw, and runs what it built by wine: the command's main job, models that go to and fro between Windows
# and this machine, tests, sessions on ONNX Runtime's DLL, and the C library.
#
#   tests/platforms/windows.sh            all
#   tests/platforms/windows.sh command    the command and its main job alone; or: tests, sessions, c, quick
#
# Sealed models go to and fro where this machine's onnxseal is: ONNXSEAL_BIN or target/release/onnxseal.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/platforms/toolchain.sh

TARGET=x86_64-pc-windows-gnu
windows=$platforms/windows

use_windows() {
    use_rust
    unpack windows binutils-mingw-w64-x86-64 gcc-mingw-w64-x86-64-posix gcc-mingw-w64-x86-64-posix-runtime \
        gcc-mingw-w64-base mingw-w64-x86-64-dev mingw-w64-common wine64 libwine libz-mingw-w64 libunwind8
    local lib=usr/lib/x86_64-linux-gnu objects=$platforms/rust/usr/lib/rustlib/$TARGET/lib name
    export PATH="$windows/usr/bin:$PATH" LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$windows/$lib"
    export CC_x86_64_pc_windows_gnu=x86_64-w64-mingw32-gcc-posix AR_x86_64_pc_windows_gnu=x86_64-w64-mingw32-ar
    export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$CC_x86_64_pc_windows_gnu
    export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$windows/usr/lib/wine/wine64
    # Windows' programs begin and end with these; -Zbuild-std leaves them out.
    mkdir -p "$objects"
    for name in rsbegin rsend; do
        [[ -e $objects/$name.o ]] || rustc --edition 2021 --target "$TARGET" --emit=obj -o "$objects/$name.o" \
            "$platforms"/rust/usr/src/rustc-*/library/rtstartup/"$name.rs"
    done
    # A Windows of its own, which shows nothing on a screen.
    export WINEPREFIX=$windows/wine WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml="
    [[ -e $WINEPREFIX/ready ]] || make_wine "$WINEPREFIX/drive_c/windows/system32"
}

make_wine() {
    local system=$1 zlib=$windows/usr/x86_64-w64-mingw32/lib/zlib1.dll
    ln -sf wineserver64 "$windows/usr/lib/wine/wineserver"
    cp "$zlib" "$windows/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/"
    # This makes the folder; its exit code says nothing.
    wine cmd /c ver >/dev/null 2>&1 || true
    cp "$zlib" "$system/"
    # Wine 8 lacks the library that has Rust's random numbers: here they come of the one that it has.
    x86_64-w64-mingw32-gcc-posix -shared -o "$system/bcryptprimitives.dll" -xc - -ladvapi32 <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID bytes, ULONG len);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T len) {
    for (; len > 0x10000000; bytes += 0x10000000, len -= 0x10000000)
        if (!SystemFunction036(bytes, 0x10000000)) return FALSE;
    return SystemFunction036(bytes, (ULONG)len);
}
C
    touch "$WINEPREFIX/ready"
}

wine() { "$CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER" "$@"; }

# cargo_windows COMMAND OPTION...
cargo_windows() {
    local command=$1
    shift
    cargo "$command" --locked -Zbuild-std=std,panic_abort --target "$TARGET" "$@"
}

command_on_windows() {
    local here=${ONNXSEAL_BIN:-target/release/onnxseal}
    timed "built: onnxseal for $TARGET" cargo_windows build -p onnxseal --bin onnxseal
    timed "main job on Windows" tests/platforms/main_job.sh "$windows/job" "${TOOL[@]}"
    [[ -x $here ]] || { echo "skipped: models to and fro (no onnxseal of this machine: set ONNXSEAL_BIN)"; return; }
    timed "models to and fro between Windows and $(uname)" \
        tests/platforms/to_and_fro.sh "$windows/to_and_fro" "$(realpath "$here")" "${TOOL[@]}"
}

tests_on_windows() {
    local packages=() package
    for package in store crypto onnx plan core batch engine; do packages+=(-p "onnxseal-$package"); done
    # Doc tests are those of every system.
    timed "tests on Windows: crates" cargo_windows test --no-fail-fast "${packages[@]}" \
        --lib --tests
    timed "tests on Windows: the command" cargo_windows test -p onnxseal --lib --test command
}

# The least that tells that it runs there.
quick_on_windows() {
    export CARGO_PROFILE_DEV_OPT_LEVEL=0
    timed "built: onnxseal for $TARGET, without ONNX Runtime" cargo_windows build -p onnxseal --bin onnxseal \
        --no-default-features
    timed "main job on Windows" tests/platforms/main_job.sh "$windows/job" "${TOOL[@]}"
    timed "tests on Windows: files" cargo_windows test -p onnxseal-store --lib
}

sessions_on_windows() {
    local library
    library=$(onnxruntime "$windows" win_amd64)
    ORT_DYLIB_PATH=Z:$library timed "sessions on ONNX Runtime's DLL" \
        cargo_windows test -p onnxseal-runtime --no-default-features --features ort,inputs,labels --test it
}

# Two programs in C and C++, linked to the DLL: one prints what an opened model holds, one runs it.
c_on_windows() {
    local built=$CARGO_TARGET_DIR/$TARGET/debug model=fixtures/sealed/valid/digits_cnn.onnx key=fixtures/sealed/keys/id.txt
    local folder=$windows/c compiler=$windows/usr/bin/x86_64-w64-mingw32 library
    local compile=(-Icrates/capi/include -static)
    library=$(onnxruntime "$windows" win_amd64)
    unpack windows/g++ g++-mingw-w64-x86-64-posix
    cp -an "$windows/g++/usr" "$windows/"
    timed "built: the C library for $TARGET" cargo_windows build -p onnxseal-capi
    tests/ort_headers.sh target/ort-headers
    mkdir -p "$folder"
    # Windows looks for a program's DLLs beside it.
    cp "$built/onnxseal.dll" "$library" "$folder/"
    "$compiler-gcc-posix" "${compile[@]}" crates/capi/examples/claims.c "$folder/onnxseal.dll" -o "$folder/claims.exe"
    # ONNX Runtime's headers have annotations for Windows that Microsoft's compiler alone knows.
    "$compiler-g++-posix" -std=gnu++17 '-D_Return_type_success_(condition)=' "${compile[@]}" -Itarget/ort-headers \
        crates/capi/examples/infer.cc "$folder/onnxseal.dll" "$folder/${library##*/}" -o "$folder/infer.exe"
    wine "$folder/claims.exe" "$model" "$key" | tr -d '\r' >"$folder/claims.txt"
    grep -qx 'tensor 8.weight type 1 \[32, 384\] 49152 bytes' "$folder/claims.txt"
    echo "a C program on Windows opened a model: $(grep -c ^tensor "$folder/claims.txt") tensors"
    wine "$folder/infer.exe" "$model" "$key" | tr -d '\r' >"$folder/infer.txt"
    are_scores_of_x86 "$folder/infer.txt"
    echo "a C++ program on Windows ran it, with the numbers of Linux: $(<"$folder/infer.txt")"
}

use_windows
TOOL=("$CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER" "$CARGO_TARGET_DIR/$TARGET/debug/onnxseal.exe")
parts=("$@")
(($#)) || parts=(command tests sessions c)
for part in "${parts[@]}"; do "${part}_on_windows"; done
