//! The directions of `docs/ARCHITECTURE.md`, and where `unsafe` may stand.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

mod ceilings;
mod modules;
mod planted;

use modules::{Imports, circles, imports};

/// The files that may have unsafe code: memory maps, and what is handed to ONNX Runtime or Python.
const UNSAFE: [&str; 9] = [
    "crates/python/src/view.rs",
    "crates/runtime/src/ep_context/callbacks.rs",
    "crates/runtime/src/ep_context/ffi.rs",
    "crates/runtime/src/session.rs",
    "crates/runtime/tests/ep_context/main.rs",
    "crates/runtime/tests/ep_context/ort.rs",
    "crates/store/src/faults.rs",
    "crates/store/src/map.rs",
    "crates/store/src/windows.rs",
];

/// A folder whose files may: to Rust, exporting a function to C is unsafe code already.
const UNSAFE_FOLDER: &str = "crates/capi/src";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo(args: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo
        .args(args)
        .arg("--offline")
        .current_dir(root())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of the table in `docs/ARCHITECTURE.md` that has `head`, as cells.
fn table(head: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let lines = page.lines().skip_while(|line| *line != head).skip(2);
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
    lines
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect()
}

#[test]
fn packages_depend_on_what_the_architecture_says() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    // The table has `core` for `onnxseal-core`.
    let short = |name: &str| name.trim_start_matches("onnxseal-").to_owned();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let siblings: BTreeSet<String> = dependencies
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .map(|dependency| dependency["name"].as_str().unwrap())
            .filter(|name| name.starts_with("onnxseal"))
            .map(short)
            .collect();
        found.insert(short(package["name"].as_str().unwrap()), siblings);
    }
    let mut written = BTreeMap::new();
    for row in table("| crate | imports | knows | does not know |") {
        let name = short(row[1].split('`').nth(1).unwrap());
        let imports: BTreeSet<String> = row[2].split_whitespace().map(short).collect();
        // The lowest crate stands first.
        assert!(
            imports.iter().all(|import| written.contains_key(import)),
            "{name}"
        );
        written.insert(name, imports);
    }
    assert_eq!(found, written);
}

/// The packages that `package` is built from, itself among them.
fn tree(package: &str, features: &[&str]) -> Vec<String> {
    let args = [
        "tree", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}",
    ];
    let tree = cargo(&[&args[..], features].concat());
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    tree.lines().map(name).collect()
}

#[test]
fn what_only_opens_models_has_no_planner() {
    let has = |tree: &[String], name: &str| tree.iter().any(|package| package == name);
    let opening = tree("onnxseal-core", &["--no-default-features"]);
    assert!(has(&opening, "onnxseal-onnx") && has(&opening, "onnxseal-crypto"));
    assert!(!has(&opening, "onnxseal-plan"));
    assert!(!has(&opening, "aws-lc-rs"));
    let protecting = tree(
        "onnxseal-core",
        &["--no-default-features", "--features", "protect"],
    );
    assert!(has(&protecting, "onnxseal-plan"));
    let runtime = tree("onnxseal-runtime", &[]);
    assert!(has(&runtime, "ort") && !has(&runtime, "onnxseal-plan"));
    let c_library = tree("onnxseal-capi", &[]);
    assert!(has(&c_library, "ort-sys") && !has(&c_library, "onnxseal-plan"));
    // It brings no session of its own: that is the application's.
    assert!(!has(&c_library, "ort"));
    assert!(has(&c_library, "onnxseal-inputs") && has(&c_library, "onnxseal-labels"));
    let device = tree("onnxseal-capi", &["--no-default-features"]);
    assert!(has(&device, "onnxseal-runtime"));
    for name in [
        "aws-lc-rs",
        "nalgebra",
        "onnxseal-inputs",
        "onnxseal-labels",
    ] {
        assert!(!has(&device, name), "{name}");
    }
    // Nothing is downloaded: ONNX Runtime's library is the application's.
    assert!(!has(&runtime, "ureq"));
}

#[test]
fn object_stores_are_only_in_builds_that_ask_for_them() {
    let has = |features: &[&str], name: &str| {
        let tree = tree("onnxseal", features);
        tree.iter().any(|package| package == name)
    };
    for name in ["object_store", "reqwest", "rustls", "tokio", "url"] {
        assert!(!has(&[], name), "{name}");
        assert!(has(&["--features", "object-store"], name), "{name}");
    }
    // TLS comes with the crates.
    for name in ["openssl-sys", "native-tls"] {
        assert!(!has(&["--features", "object-store"], name), "{name}");
    }
}

#[test]
fn nothing_that_ships_contains_the_tests_tools() {
    for package in [
        "onnxseal",
        "onnxseal-capi",
        "onnxseal-core",
        "onnxseal-plan",
        "onnxseal-runtime",
    ] {
        let tree = tree(package, &[]);
        for tool in [
            "onnxseal-testkit",
            "cbindgen",
            "onnx-protobuf",
            "protobuf",
            "prost-build",
        ] {
            assert!(
                !tree.iter().any(|package| package == tool),
                "{package} has {tool}"
            );
        }
    }
}

/// All Rust files of the project, but for what was built.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Where messages are decoded that are short, or as long as what they become.
const MESSAGES: [&str; 4] = [
    "crates/labels/src/head/tail.rs",
    "crates/labels/src/head/write.rs",
    "crates/labels/src/table.rs",
    "crates/onnx/src/proto/onnx.rs",
];

/// Generated messages would take memory out of all proportion to a file's bytes.
#[test]
fn no_message_of_a_file_is_decoded_into_memory() {
    let mut paths = Vec::new();
    sources(&root().join("src"), &mut paths);
    for package in fs::read_dir(root().join("crates")).unwrap() {
        let package = package.unwrap().path();
        // What the tests share.
        if !package.ends_with("testkit") {
            sources(&package.join("src"), &mut paths);
        }
    }
    assert!(paths.len() > 50);
    paths.retain(|path| {
        let code = fs::read_to_string(path).unwrap();
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        code.contains("prost") || code.contains("proto::ModelProto")
    });
    let found = paths.iter().map(|path| path.strip_prefix(root()).unwrap());
    let found: BTreeSet<&Path> = found.collect();
    assert_eq!(found, MESSAGES.iter().map(Path::new).collect());
}

/// The modules of a package, and what each imports.
fn modules(source: &Path, with_tests: bool) -> Imports {
    let mut paths = Vec::new();
    sources(source, &mut paths);
    let files = paths.iter().map(|path| {
        let name = path.strip_prefix(source).unwrap().to_str().unwrap();
        let code = fs::read_to_string(path).unwrap();
        (name.replace('\\', "/"), code)
    });
    imports(&files.collect(), with_tests)
}

/// The circles of modules in all packages, by package and first module, and the number of imports.
fn all_circles(with_tests: bool) -> (BTreeMap<(String, String), Vec<String>>, usize) {
    let mut n_imports = 0;
    let mut found = BTreeMap::new();
    let packages = fs::read_dir(root().join("crates")).unwrap();
    let packages = packages.map(|package| package.unwrap().path());
    for package in packages.chain([root().to_owned()]) {
        let name = package.strip_prefix(root()).unwrap().to_str().unwrap();
        let imports = modules(&package.join("src"), with_tests);
        n_imports += imports.values().map(BTreeSet::len).sum::<usize>();
        for circle in circles(&imports) {
            let first = (name.to_owned(), (*circle.first().unwrap()).to_owned());
            let on_it = |to: &&String| circle.contains(to.as_str());
            let imports = circle.iter().map(|from| {
                let to: Vec<_> = imports[*from].iter().filter(on_it).collect();
                format!("{from} -> {to:?}")
            });
            found.insert(first, imports.collect::<Vec<_>>());
        }
    }
    (found, n_imports)
}

#[test]
fn modules_import_each_other_in_no_circle() {
    let (found, n_imports) = all_circles(false);
    assert!(found.is_empty(), "{found:#?}");
    assert!(n_imports > 1000, "{n_imports}");
}

/// Packages in which an inline test uses what stands above its module. A package that is out of this
/// list stays out.
const ABOVE: [&str; 6] = [
    "crates/assess",
    "crates/core",
    "crates/crypto",
    "crates/engine",
    "crates/onnx",
    "crates/plan",
];

#[test]
fn inline_tests_use_nothing_above_their_module() {
    let (mut found, _) = all_circles(true);
    found.retain(|(package, _), _| !ABOVE.contains(&package.as_str()));
    assert!(found.is_empty(), "{found:#?}");
}

/// The rooms of core, from the lowest: each imports those before it.
#[test]
fn the_rooms_of_core_are_on_floors() {
    const ROOMS: [&str; 7] = ["error", "format", "pass", "open", "check", "make", "named"];
    let floor = |module: &str| {
        let room = module.split('/').next().unwrap_or_default();
        ROOMS.iter().position(|known| *known == room)
    };
    let graph = modules(&root().join("crates/core/src"), false);
    for (module, imported) in graph.iter().filter(|(module, _)| *module != "lib") {
        let from = floor(module).unwrap_or_else(|| panic!("{module} is in no room"));
        for other in imported {
            let to = floor(other).unwrap_or_else(|| panic!("{other} is in no room"));
            assert!(to <= from, "{module} imports {other}, which is above it");
        }
    }
}

/// Whether a line has the word `unsafe` outside of a comment.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| word == concat!("un", "safe"))
}

#[test]
fn unsafe_code_is_where_the_system_and_onnx_runtime_are_called() {
    let mut paths = Vec::new();
    sources(root(), &mut paths);
    assert!(paths.len() > 50);
    let mut found = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path).unwrap();
        let allowed = text.contains(concat!("allow(", "unsafe_code)"));
        let uses = text.lines().any(is_unsafe);
        let path = path.strip_prefix(root()).unwrap();
        if (allowed || uses) && !path.starts_with(UNSAFE_FOLDER) {
            found.push(path.to_owned());
        }
    }
    found.sort();
    assert_eq!(found, UNSAFE.map(Path::new));
}

#[test]
fn the_word_is_found_where_it_is_code() {
    assert!(is_unsafe(concat!("let x = un", "safe { y };")));
    assert!(!is_unsafe("#![forbid(unsafe_code)]"));
    assert!(!is_unsafe("// SAFETY: not unsafe"));
}

#[test]
fn threads_start_by_calls_that_return_errors() {
    let mut paths = Vec::new();
    sources(root(), &mut paths);
    let folders = ["tests", "benches", "examples", "fuzz"];
    let is_test = |path: &Path| {
        let mut parts = path.components().map(|part| part.as_os_str());
        parts.any(|part| folders.iter().any(|folder| part == *folder))
            || path.file_name() == Some("tests.rs".as_ref())
    };
    let mut n_read = 0;
    for path in &paths {
        let path = path.strip_prefix(root()).unwrap();
        if is_test(path) {
            continue;
        }
        n_read += 1;
        let text = fs::read_to_string(root().join(path)).unwrap();
        let code = text.split("\nmod tests {").next().unwrap();
        // These panic where the system gives the process no more threads.
        for call in [concat!("thread::", "spawn("), concat!("scope", ".spawn(")] {
            assert!(!code.contains(call), "{}: {call}", path.display());
        }
    }
    assert!(n_read > 100);
}
