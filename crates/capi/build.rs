//! Names the shared library in itself, so that programs linked to one version load no other.

fn main() {
    let [major, minor] = ["MAJOR", "MINOR"]
        .map(|part| std::env::var(format!("CARGO_PKG_VERSION_{part}")).unwrap_or_default());
    // Before 1.0 a new minor version may break what was built with the last.
    let abi = if major == "0" {
        format!("0.{minor}")
    } else {
        major
    };
    let name = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        // Its packages take no other names.
        Ok("android") => "-Wl,-soname,libonnxseal.so".to_owned(),
        Ok("linux" | "freebsd" | "netbsd" | "openbsd") => {
            format!("-Wl,-soname,libonnxseal.so.{abi}")
        }
        Ok("macos") => format!("-Wl,-install_name,@rpath/libonnxseal.{abi}.dylib"),
        _ => return,
    };
    println!("cargo::rustc-cdylib-link-arg={name}");
    // zig's linker lacks the option.
    if name.contains("soname") && std::env::var_os("CARGO_ZIGBUILD_TARGET").is_none() {
        // The checksums that object stores need come from a crate with a C interface of its own, and
        // blake3 has one for ARM64.
        println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
    println!("cargo::rerun-if-env-changed=CARGO_ZIGBUILD_TARGET");
    println!("cargo::rerun-if-changed=build.rs");
}
