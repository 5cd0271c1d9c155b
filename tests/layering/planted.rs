//! Packages with and without circles, for the reader of modules.

use std::collections::BTreeMap;

use crate::modules::{circles, imports};

/// What the modules of a package import, as `a -> b c`, by the code of each file.
fn read(files: &[(&str, &str)]) -> (Vec<String>, usize) {
    let files: BTreeMap<String, String> = (files.iter())
        .map(|(name, code)| ((*name).to_owned(), (*code).to_owned()))
        .collect();
    let imports = imports(&files, false);
    let n_circles = circles(&imports).len();
    let found = imports.iter().filter(|(_, to)| !to.is_empty());
    let line = |from: &str, to: Vec<&str>| format!("{from} -> {}", to.join(" "));
    let lines = found.map(|(from, to)| line(from, to.iter().map(String::as_str).collect()));
    (lines.collect(), n_circles)
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str], n_circles: usize) {
    let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(read(files), (expected, n_circles));
}

/// Two modules of which the first has `code`, and the second imports it.
#[track_caller]
fn is_circle_with(code: &str) {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", code),
        (
            "b.rs",
            "use crate::a::A; pub struct B; pub fn b() {} pub mod c { pub struct C; }",
        ),
    ];
    check(&files, &["a -> b", "b -> a"], 1);
}

#[test]
fn circles_are_seen_however_paths_are_written() {
    is_circle_with("use crate::b::B; pub struct A(B);");
    is_circle_with("use super::b::B; pub struct A(B);");
    is_circle_with("use crate::{b::{self, B as D}}; pub struct A(D);");
    is_circle_with("use super::{b::{c::{C}, b}}; pub struct A(C);");
    is_circle_with("use crate::b::*; pub struct A;");
    is_circle_with("pub use crate::b::B; pub struct A;");
    is_circle_with("pub(crate) use super::b::c::C; pub struct A;");
    is_circle_with("pub struct A(crate::b::B);");
    is_circle_with("pub struct A; fn a() { super::b::b() }");
    is_circle_with("pub struct A; fn a() { use crate::b; b::b(); }");
    is_circle_with("pub struct A; fn a() { println!(\"{:?}\", [crate::b::b()]) }");
    is_circle_with("pub struct A; impl From<crate::b::c::C> for A {}");
    is_circle_with("#[serde(with = \"crate::b::c\")] pub struct A;");
    is_circle_with("pub struct A; mod inner { use super::super::b::B; }");
    is_circle_with("pub struct A; #[cfg(any(test, unix))] use crate::b::B;");
}

#[test]
fn tests_comments_and_names_of_other_crates_are_no_imports() {
    for code in [
        "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        "pub struct A; #[cfg(all(test, unix))] use crate::b::B;",
        "pub struct A { #[cfg(test)] b: crate::b::B, c: u8 }",
        "pub struct A; #[cfg(test)] impl A { fn b(&self) -> [crate::b::B; 1] {} }",
        "pub struct A; // crate::b::B\n /* super::b::B */",
        "/// [B](crate::b::B)\n pub struct A;",
        "pub struct A; use other::b::B; fn a(b: B) { b.crate_b() }",
        "pub struct A; use b::b as c; fn b() -> &'static str { \"b\" }",
        "pub(in crate::b) struct A;",
    ] {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", code),
            ("b.rs", "use crate::a::A;"),
        ];
        check(&files, &["b -> a"], 0);
    }
}

#[test]
fn long_circles_are_seen() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "pub struct B(super::c::C);"),
        ("c.rs", "use super::a; pub struct C;"),
        ("d.rs", "use crate::{a, b, c};"),
    ];
    check(&files, &["a -> b", "b -> c", "c -> a", "d -> a b c"], 1);
}

#[test]
fn a_parent_may_use_its_children_or_they_it() {
    let child = ("a/b.rs", "use super::A; pub struct B(A);");
    // A list of what children define.
    let lists = "mod b; pub use b::B; pub struct A;";
    check(
        &[("lib.rs", "mod a;"), ("a.rs", lists), child],
        &["a/b -> a"],
        0,
    );
    // The use of what is listed, and uses without a list.
    for uses in [
        "mod b; pub use b::B; pub struct A; fn a(b: B) {}",
        "mod b; use b::B; pub struct A;",
        "mod b; pub struct A; fn a() { b::B; }",
        "mod b; pub struct A; fn a() { self::b::B; }",
    ] {
        let expected = ["a -> a/b", "a/b -> a"];
        check(
            &[("lib.rs", "mod a;"), ("a/mod.rs", uses), child],
            &expected,
            1,
        );
    }
    let child = ("a/b.rs", "pub struct B;");
    let uses = "mod b; use b::B; pub struct A;";
    check(
        &[("main.rs", "mod a;"), ("a.rs", uses), child],
        &["a -> a/b"],
        0,
    );
}

#[test]
fn lists_are_seen_through() {
    // What `a` lists is of its children, and of `d`.
    let files = [
        ("lib.rs", "mod a; mod d; pub use a::B; pub fn root() {}"),
        (
            "a.rs",
            "mod b; mod c; pub use b::*; use c::C; use crate::d::D;",
        ),
        ("a/b.rs", "use crate::d; pub struct B;"),
        ("a/c.rs", "use super::{B, D}; pub struct C(B, D);"),
        ("d.rs", "pub struct D;"),
    ];
    check(&files, &["a -> a/c d", "a/b -> d", "a/c -> a/b d"], 0);
    // A function and its module of one name.
    let files = [
        ("lib.rs", "mod a; mod b; pub use a::a;"),
        ("a.rs", "pub fn a() {} pub const N: usize = 1;"),
        ("b.rs", "use crate::a; fn b() { a(); a::N; }"),
    ];
    check(&files, &["b -> a"], 0);
    // What the root defines.
    let files = [
        (
            "lib.rs",
            "mod a; mod b; pub use a::A; pub const N: usize = 1; fn x() { b::b() }",
        ),
        ("a.rs", "use crate::N; pub struct A;"),
        ("b.rs", "pub fn b() -> usize { crate::N }"),
    ];
    check(&files, &["a -> lib", "b -> lib", "lib -> b"], 1);
}

#[test]
fn tests_count_if_that_is_asked_for() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        ),
        ("b.rs", "use crate::a::A; pub struct B;"),
    ];
    let files = files.map(|(name, code)| (name.to_owned(), code.to_owned()));
    for with_tests in [false, true] {
        let imports = imports(&BTreeMap::from(files.clone()), with_tests);
        assert_eq!(circles(&imports).len(), usize::from(with_tests));
    }
}
