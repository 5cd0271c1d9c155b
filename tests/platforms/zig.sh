# shellcheck shell=bash disable=SC2154
# Sourced after toolchain.sh: zig, which compiles C and links for another processor, and for an older C library than this
# system's.

venv=$platforms/venv

# zig, what calls it, and what judges wheels, in a virtual environment of their own.
use_zig() {
    if [[ ! -e $venv/ready ]]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check auditwheel==6.8.2 cargo-zigbuild==0.24.0 \
            maturin==1.16.0 ziglang==0.17.1 || skip "zig, cargo-zigbuild, maturin and auditwheel (not to be had of PyPI here)"
        touch "$venv/ready"
    fi
    export PATH="$venv/bin:$PATH" CARGO_ZIGBUILD_CACHE_DIR=$platforms/zig ZIG_GLOBAL_CACHE_DIR=$platforms/zig/cache
}

# Says which glibc FILE needs; fails if that is newer than WANTED, such as 2.28, or any: glibc_at_most WANTED FILE
glibc_at_most() {
    local newest
    newest=$(readelf --wide --dyn-syms "$2" | grep -o '@GLIBC_[0-9.]*' | sort -uV | tail -n 1)
    newest=${newest#@GLIBC_}
    [[ -n $newest && ($1 == any || $(printf '%s\n' "$newest" "$1" | sort -V | tail -n 1) == "$1") ]] \
        || { echo "${2##*/} needs glibc $newest, and $1 was promised" >&2; exit 1; }
    echo "${2##*/}: $(stat -Lc %s "$2") bytes, needs glibc $newest"
}

# Rust's library for ARM64, and qemu to run what is built. Packages of this system's own sources, by lists for both processors
# that are apart from the system's.
use_arm64_rust() {
    local apt=$platforms/apt
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial}
    touch "$apt/status"
    cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "$(id -un)";
APT::Update::Post-Invoke-Success "";
Acquire::Languages "none";
CONF
    APT_CONFIG=$apt/apt.conf unpack arm/root qemu-user-static libstd-rust-web-dev:arm64
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="--sysroot $platforms/arm/root/usr"
}
