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
    if name.contains("soname") && std::env::var_os("CARGO_FEATURE_OBJECT_STORE").is_some() {
        // The checksums that object stores need come from a crate with a C interface of its own. zig knows no such option.
        println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
