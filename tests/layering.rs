//! The directions of `docs/ARCHITECTURE.md`, and where `unsafe` may stand.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which siblings each package may depend on, tests aside.
const ALLOWED: [(&str, &[&str]); 17] = [
    (
        "onnxseal",
        &[
            "onnxseal-assess",
            "onnxseal-batch",
            "onnxseal-core",
            "onnxseal-data",
            "onnxseal-engine",
            "onnxseal-inputs",
            "onnxseal-labels",
            "onnxseal-rewrite",
        ],
    ),
    (
        "onnxseal-assess",
        &[
            "onnxseal-core",
            "onnxseal-data",
            "onnxseal-engine",
            "onnxseal-onnx",
            "onnxseal-plan",
            "onnxseal-store",
        ],
    ),
    ("onnxseal-batch", &["onnxseal-core", "onnxseal-store"]),
    (
        "onnxseal-capi",
        &[
            "onnxseal-core",
            "onnxseal-inputs",
            "onnxseal-labels",
            "onnxseal-runtime",
        ],
    ),
    (
        "onnxseal-core",
        &[
            "onnxseal-crypto",
            "onnxseal-onnx",
            "onnxseal-plan",
            "onnxseal-store",
        ],
    ),
    ("onnxseal-crypto", &[]),
    ("onnxseal-data", &["onnxseal-store"]),
    ("onnxseal-engine", &["onnxseal-data", "onnxseal-store"]),
    (
        "onnxseal-inputs",
        &[
            "onnxseal-crypto",
            "onnxseal-data",
            "onnxseal-onnx",
            "onnxseal-rewrite",
            "onnxseal-store",
        ],
    ),
    (
        "onnxseal-labels",
        &[
            "onnxseal-crypto",
            "onnxseal-onnx",
            "onnxseal-rewrite",
            "onnxseal-store",
        ],
    ),
    ("onnxseal-onnx", &[]),
    ("onnxseal-plan", &["onnxseal-onnx"]),
    (
        "onnxseal-python",
        &[
            "onnxseal-assess",
            "onnxseal-core",
            "onnxseal-data",
            "onnxseal-engine",
            "onnxseal-inputs",
            "onnxseal-labels",
            "onnxseal-rewrite",
            "onnxseal-runtime",
        ],
    ),
    ("onnxseal-rewrite", &["onnxseal-onnx", "onnxseal-store"]),
    (
        "onnxseal-runtime",
        &[
            "onnxseal-core",
            "onnxseal-inputs",
            "onnxseal-labels",
            "onnxseal-onnx",
        ],
    ),
    ("onnxseal-store", &[]),
    ("onnxseal-testkit", &["onnxseal-onnx"]),
];

/// The files that may have unsafe code: memory maps, and what is handed to ONNX Runtime or Python.
const UNSAFE: [&str; 7] = [
    "crates/python/src/view.rs",
    "crates/runtime/src/ep_context/callbacks.rs",
    "crates/runtime/src/ep_context/ffi.rs",
    "crates/runtime/src/session.rs",
    "crates/runtime/tests/ep_context/main.rs",
    "crates/runtime/tests/ep_context/ort.rs",
    "crates/store/src/map.rs",
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

#[test]
fn packages_depend_on_what_lies_below_them() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let mut siblings: Vec<&str> = dependencies
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .map(|dependency| dependency["name"].as_str().unwrap())
            .filter(|name| name.starts_with("onnxseal"))
            .collect();
        siblings.sort_unstable();
        found.insert(package["name"].as_str().unwrap(), siblings);
    }
    // A new package takes a place in docs/ARCHITECTURE.md, and here.
    let allowed: BTreeMap<_, _> = ALLOWED
        .iter()
        .map(|(name, on)| (*name, on.to_vec()))
        .collect();
    assert_eq!(found, allowed);
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

/// The modules that a module names by `crate::`, tests aside: `a/b` for `crate::a::b::Item`.
fn imports(code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String = (code.lines())
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut found = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let ends = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
        let path = path.split(ends).next().unwrap_or_default();
        let names: Vec<&str> = path.split("::").filter(|name| !name.is_empty()).collect();
        // The longest beginning that is a module.
        let module = (1..=names.len()).rev().map(|n| names[..n].join("/"));
        found.extend(module.into_iter().find(|name| modules.contains(name)));
    }
    found
}

/// The modules of a package, and what each imports.
fn modules(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut paths = Vec::new();
    sources(source, &mut paths);
    let name = |path: &Path| {
        let path = path.strip_prefix(source).unwrap().with_extension("");
        let path = path.to_str().unwrap().replace('\\', "/");
        path.trim_end_matches("/mod").to_owned()
    };
    let is_code = |path: &&PathBuf| !path.to_string_lossy().contains("tests");
    let files: BTreeMap<String, String> = (paths.iter().filter(is_code))
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect();
    let names: BTreeSet<String> = files.keys().cloned().collect();
    let found = files.iter().map(|(name, code)| {
        let mut found = imports(code, &names);
        found.remove(name);
        (name.clone(), found)
    });
    found.collect()
}

/// A module that is reached from itself, if there is one.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<&String> {
    graph.keys().find(|start| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![*start]);
        while let Some(module) = left.pop() {
            for next in graph.get(module).into_iter().flatten() {
                if next == *start {
                    return true;
                }
                if seen.insert(next) {
                    left.push(next);
                }
            }
        }
        false
    })
}

#[test]
fn modules_import_each_other_in_no_circle() {
    let mut n_imports = 0;
    let packages = fs::read_dir(root().join("crates")).unwrap();
    let packages = packages.map(|package| package.unwrap().path().join("src"));
    for source in packages.chain([root().join("src")]) {
        let graph = modules(&source);
        n_imports += graph.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(circle(&graph), None, "{}", source.display());
    }
    assert!(n_imports > 300, "{n_imports}");

    let graph = |edges: &[(&str, &str)]| {
        let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
        for (from, to) in edges {
            graph
                .entry((*from).into())
                .or_default()
                .insert((*to).into());
        }
        graph
    };
    assert!(circle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])).is_some());
    assert!(circle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])).is_none());
}

/// The rooms of core, from the lowest: each imports those before it.
#[test]
fn the_rooms_of_core_are_on_floors() {
    const ROOMS: [&str; 6] = ["error", "format", "pass", "open", "check", "make"];
    let floor = |module: &str| {
        let room = module.split('/').next().unwrap_or_default();
        ROOMS.iter().position(|known| *known == room)
    };
    let graph = modules(&root().join("crates/core/src"));
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
