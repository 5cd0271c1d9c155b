//! How many lines each crate may have. A change that needs more takes something out, or says in its
//! commit why the ceiling rises; a change that takes lines out lowers it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{root, sources};

/// The most lines of `src` of each crate: code, comments and blank lines, without tests and without
/// generated code.
const CEILINGS: [(&str, usize); 18] = [
    ("assess", 5731),
    ("batch", 2989),
    ("capi", 2127),
    ("core", 8527),
    ("crypto", 4830),
    ("data", 1890),
    ("engine", 1264),
    ("fingerprint", 1896),
    ("inputs", 5302),
    ("labels", 4463),
    ("onnx", 4289),
    ("plan", 4163),
    ("python", 3263),
    ("rewrite", 1042),
    ("runtime", 2497),
    ("store", 6602),
    ("testkit", 995),
    ("src", 8855),
];

/// How far below its ceiling a crate may be before the ceiling has to follow.
const SLACK: usize = 60;

/// The most lines of a file.
const FILE: usize = 500;

/// Counts the lines of a file outside modules that only tests have.
fn lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let (mut counted, mut at) = (0, 0);
    while let Some(line) = lines.get(at) {
        let is_test = line.starts_with("#[cfg(") && line.contains("test");
        let mut rest = lines[at..].iter().skip_while(|line| line.starts_with('#'));
        let is_module = rest
            .next()
            .is_some_and(|next| next.contains("mod ") && next.ends_with('{'));
        if is_test && is_module {
            at += lines[at..].iter().take_while(|line| **line != "}").count() + 1;
        } else {
            (counted, at) = (counted + 1, at + 1);
        }
    }
    counted
}

fn is_counted(path: &Path) -> bool {
    let is_apart = |name: &str| matches!(name, "tests" | "tests.rs" | "proto");
    path.extension().is_some_and(|extension| extension == "rs")
        && !path.iter().filter_map(|name| name.to_str()).any(is_apart)
}

/// The lines of each file of a crate's `src`, with its path.
fn files(source: &Path) -> Vec<(usize, PathBuf)> {
    let mut found = Vec::new();
    sources(source, &mut found);
    found.retain(|path| is_counted(path.strip_prefix(source).unwrap()));
    let counted = |path: PathBuf| (lines(&fs::read_to_string(&path).unwrap()), path);
    found.into_iter().map(counted).collect()
}

#[test]
fn crates_do_not_grow_past_their_ceilings() {
    let mut wrong = Vec::new();
    for (name, ceiling) in CEILINGS {
        let source = match name {
            "src" => root().join("src"),
            name => root().join("crates").join(name).join("src"),
        };
        let files = files(&source);
        let sum: usize = files.iter().map(|(n, _)| n).sum();
        if sum > ceiling {
            wrong.push(format!(
                "{name} has {sum} lines, and its ceiling is {ceiling}"
            ));
        } else if sum + SLACK < ceiling {
            wrong.push(format!(
                "{name} has {sum} lines: lower its ceiling of {ceiling}"
            ));
        }
        for (n, path) in files {
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap();
            if n > FILE {
                wrong.push(format!("{path} has {n} lines"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let n_crates = fs::read_dir(root().join("crates")).unwrap().count();
    assert_eq!(CEILINGS.len(), n_crates + 1, "each crate has a ceiling");
}

#[test]
fn tests_are_not_counted() {
    let text = "//! Doc\n\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {}\n}\n// End\n";
    assert_eq!(lines(text), 5);
    assert_eq!(
        lines(&text.replace("(test)]", "(all(test, unix))]\n#[allow(unused)]")),
        5
    );
    assert_eq!(lines("#[cfg(test)]\nuse a::b;\n"), 2);
    for apart in [
        "tests.rs",
        "splice/tests.rs",
        "tests/a.rs",
        "proto/onnx.rs",
        "a.txt",
    ] {
        assert!(!is_counted(Path::new(apart)), "{apart}");
    }
}
