//! Which modules of a package import which.
//!
//! A module is a file. It imports the module that defines what one of its paths names, in a `use` or
//! in code, wherever a re-export stands on the way. A re-export of what a module's own children
//! define is a list of them and no import, unless the module's code uses the name. Tests, and modules
//! that are declared for tests alone, count only if that is asked for. Methods and fields are not
//! looked at: their types' names are.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Modules by their files' names (`a/b` for `a/b.rs` and `a/b/mod.rs`), and what each imports.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads a package: the texts of its files, by their paths below `src`.
pub fn imports(files: &BTreeMap<String, String>, with_tests: bool) -> Imports {
    let mut package = Package {
        with_tests,
        modules: Vec::new(),
    };
    let root = ["lib.rs", "main.rs"];
    let root = root.iter().find(|name| files.contains_key(**name)).unwrap();
    package.read(files, root, "", None);
    package.imports()
}

/// The groups of modules that reach each other.
pub fn circles(imports: &Imports) -> Vec<BTreeSet<&str>> {
    let names = imports.keys().map(String::as_str);
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        names.map(|name| (name, reached(imports, name))).collect();
    let circle = |from: &str| -> BTreeSet<&str> {
        let back = |to: &&&str| reached.get(**to).is_some_and(|back| back.contains(from));
        reached[from].iter().filter(back).copied().collect()
    };
    let mut found: Vec<_> = reached.keys().map(|name| circle(name)).collect();
    found.retain(|circle| !circle.is_empty());
    found.sort();
    found.dedup();
    found
}

/// The modules that one reaches, itself only on a circle.
fn reached<'a>(imports: &'a Imports, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(module) = left.pop() {
        let next = imports.get(module).into_iter().flatten();
        left.extend((next.map(String::as_str)).filter(|next| seen.insert(*next)));
    }
    seen
}

/// A path, by its names: `["super", "a", "B"]`.
type Path = Vec<String>;

/// All modules, those inside of files too; the first is the root.
struct Package {
    with_tests: bool,
    modules: Vec<Module>,
}

#[derive(Default)]
struct Module {
    /// The name of its file.
    file: String,
    /// Itself, for the root.
    parent: usize,
    children: Vec<(String, usize)>,
    items: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths in its code.
    paths: BTreeSet<Path>,
}

/// One name that a `use` brings.
struct Use {
    /// `*` for all names.
    name: String,
    path: Path,
    is_public: bool,
}

impl Package {
    /// Reads a file whose modules lie in `folder`.
    fn read(
        &mut self,
        files: &BTreeMap<String, String>,
        file: &str,
        folder: &str,
        parent: Option<usize>,
    ) -> usize {
        let code: TokenStream = files[file].parse().unwrap();
        let name = file.trim_end_matches(".rs").trim_end_matches("/mod");
        self.module(files, code, name, folder, parent)
    }

    fn module(
        &mut self,
        files: &BTreeMap<String, String>,
        code: TokenStream,
        file: &str,
        folder: &str,
        parent: Option<usize>,
    ) -> usize {
        let at = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent: parent.unwrap_or(at),
            ..Module::default()
        });
        let mut tokens = tokens_of(code, self.with_tests);
        let mut i = 0;
        while i < tokens.len() {
            let names = word(&tokens[i]).zip(tokens.get(i + 1).and_then(word));
            i += 1;
            let Some((keyword, name)) = names else {
                continue;
            };
            match keyword.as_str() {
                "mod" => {
                    let below = format!("{folder}{name}/");
                    let child = match tokens.get(i + 1).and_then(braces).cloned() {
                        Some(group) => {
                            tokens.remove(i + 1);
                            self.module(files, group.stream(), file, &below, Some(at))
                        }
                        None => {
                            let places = [format!("{folder}{name}.rs"), format!("{below}mod.rs")];
                            let place = places.iter().find(|place| files.contains_key(*place));
                            self.read(files, place.unwrap(), &below, Some(at))
                        }
                    };
                    self.modules[at].children.push((name, child));
                }
                keyword if defines(keyword) => {
                    self.modules[at].items.insert(name);
                }
                _ => {}
            }
        }
        self.modules[at].scan(&tokens, self.with_tests);
        at
    }

    fn imports(&self) -> Imports {
        let mut found = Imports::new();
        for (at, module) in self.modules.iter().enumerate() {
            let lists = |one: &&Use| one.is_public && self.is_below(at, &one.path);
            let listed: BTreeSet<&str> = (module
                .uses
                .iter()
                .filter(lists)
                .map(|one| one.name.as_str()))
            .collect();
            let uses = module.uses.iter().filter(|one| !lists(one));
            // A name alone is what the file defines, or what a `use` brings.
            let paths = (module.paths.iter())
                .filter(|path| path.len() > 1 || listed.contains(path[0].as_str()));
            let targets = uses.map(|one| &one.path).chain(paths);
            let files = targets.flat_map(|path| self.resolve(at, path, &mut BTreeSet::new()));
            let files = files.map(|target| self.modules[target].file.clone());
            let imported = found.entry(module.file.clone()).or_default();
            imported.extend(files.filter(|file| *file != module.file));
        }
        found
    }

    /// Whether a path leads to modules below this one.
    fn is_below(&self, at: usize, path: &Path) -> bool {
        let targets = self.resolve(at, path, &mut BTreeSet::new());
        let below = |target: &usize| {
            let mut module = *target;
            while module != at && module != self.modules[module].parent {
                module = self.modules[module].parent;
            }
            module == at
        };
        !targets.is_empty() && targets.iter().all(below)
    }

    /// The modules that define what a path of a module names: none if it is of another crate.
    fn resolve(
        &self,
        at: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, String)>,
    ) -> BTreeSet<usize> {
        match path[0].as_str() {
            "crate" => self.below(0, &path[1..], seen),
            "self" => self.below(at, &path[1..], seen),
            "super" => self.below(self.modules[at].parent, &path[1..], seen),
            _ => self.named(at, path, seen),
        }
    }

    /// As far as a path names modules that are known; a name that nothing explains is the last one's.
    fn below(
        &self,
        at: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, String)>,
    ) -> BTreeSet<usize> {
        match path.first().map(String::as_str) {
            None | Some("*") => BTreeSet::from([at]),
            Some("super") => self.below(self.modules[at].parent, &path[1..], seen),
            Some(_) => {
                let found = self.named(at, path, seen);
                if found.is_empty() {
                    BTreeSet::from([at])
                } else {
                    found
                }
            }
        }
    }

    /// What a path names whose first name is one of this module.
    fn named(
        &self,
        at: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, String)>,
    ) -> BTreeSet<usize> {
        // `use a::a` brings what another crate's `a` has.
        if !seen.insert((at, path[0].clone())) {
            return BTreeSet::new();
        }
        let module = &self.modules[at];
        let (name, rest) = (&path[0], &path[1..]);
        let mut found = BTreeSet::new();
        // `a::b` is in the module `a`, and `a` alone a function of that name, if there is one.
        let children = module.children.iter().filter(|(child, _)| child == name);
        if !rest.is_empty() {
            for (_, child) in children.clone() {
                found.extend(self.below(*child, rest, seen));
            }
        }
        if found.is_empty() && module.items.contains(name) {
            found.insert(at);
        }
        if found.is_empty() {
            for one in module.uses.iter().filter(|one| one.name == *name) {
                found.extend(self.resolve(at, &[&one.path, rest].concat(), seen));
            }
        }
        if found.is_empty() {
            found.extend(children.map(|(_, child)| child));
        }
        if found.is_empty() {
            for one in module.uses.iter().filter(|one| one.name == "*") {
                for target in self.resolve(at, &one.path, seen) {
                    found.extend(self.named(target, path, seen));
                }
            }
        }
        found
    }
}

impl Module {
    /// Notes all paths and uses in some code.
    fn scan(&mut self, tokens: &[TokenTree], with_tests: bool) {
        let mut i = 0;
        let mut is_public = false;
        while i < tokens.len() {
            match &tokens[i] {
                TokenTree::Group(group) => {
                    // `pub(in a)` is no path.
                    if !(i > 0 && is_word(&tokens[i - 1], "pub")) {
                        self.scan(&tokens_of(group.stream(), with_tests), with_tests);
                        is_public = false;
                    }
                    i += 1;
                }
                TokenTree::Ident(_) if is_word(&tokens[i], "use") => {
                    let end = (i..tokens.len()).find(|i| is_mark(tokens.get(*i), ';'));
                    match end {
                        Some(end) if !is_mark(tokens.get(i + 1), '<') => {
                            self.uses(&[], &tokens[i + 1..end], is_public);
                            i = end;
                        }
                        _ => i += 1,
                    }
                    is_public = false;
                }
                TokenTree::Ident(_) => {
                    is_public = is_word(&tokens[i], "pub");
                    let (path, end) = path(tokens, i);
                    let before = |n: usize| i.checked_sub(n).and_then(|i| tokens.get(i));
                    let is_member = is_mark(before(1), '.') && !is_mark(before(2), '.');
                    let is_rest = is_mark(before(1), ':') && is_mark(before(2), ':');
                    let is_definition = before(1).and_then(word).is_some_and(|word| defines(&word));
                    let is_lifetime = is_mark(before(1), '\'');
                    let is_field = path.len() == 1
                        && is_mark(tokens.get(end), ':')
                        && !is_mark(tokens.get(end + 1), ':');
                    let is_keyword =
                        path.len() == 1 && ["crate", "self", "super"].contains(&path[0].as_str());
                    let is_other = is_member || is_rest || is_definition || is_lifetime;
                    if !(is_other || is_field || is_keyword) {
                        self.paths.insert(path);
                    }
                    i = end;
                }
                // Functions that attributes of `serde` name.
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let text = text.trim_matches('"');
                    let is_path = |c: char| c.is_alphanumeric() || "_:".contains(c);
                    if text.contains("::") && text.chars().all(is_path) {
                        let path: Path = text.split("::").map(str::to_owned).collect();
                        self.paths
                            .extend((!path.contains(&String::new())).then_some(path));
                    }
                    i += 1;
                }
                TokenTree::Punct(_) => i += 1,
            }
        }
    }

    /// Notes what follows `use`: `a::b`, `a::b as c`, `a::*`, `a::{b, c::d}`.
    fn uses(&mut self, before: &[String], tokens: &[TokenTree], is_public: bool) {
        for tree in tokens.split(|token| is_mark(Some(token), ',')) {
            let from = tree.iter().position(|token| !is_mark(Some(token), ':'));
            let Some(from) = from else { continue };
            let mut path = before.to_vec();
            let mut end = from;
            if word(&tree[from]).is_some() {
                let (names, after) = self::path(tree, from);
                path.extend(names);
                end = after;
            }
            let rest = &tree[end..];
            let last = rest.iter().find(|token| !is_mark(Some(token), ':'));
            let mut name = path.last().cloned().unwrap_or_default();
            match last {
                Some(TokenTree::Group(group)) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    self.uses(&path, &inner, is_public);
                    continue;
                }
                Some(TokenTree::Punct(_)) => name = "*".to_owned(),
                Some(TokenTree::Ident(_)) => {
                    name = tree.last().and_then(word).unwrap_or_default();
                }
                _ => {}
            }
            // `a::{self}` is `a`.
            if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
                path.pop();
                if name == "self" {
                    name = path.last().cloned().unwrap_or_default();
                }
            }
            self.uses.push(Use {
                name,
                path,
                is_public,
            });
        }
    }
}

/// The path that begins at a word, and where it ends.
fn path(tokens: &[TokenTree], start: usize) -> (Path, usize) {
    let mut path: Path = word(&tokens[start]).into_iter().collect();
    let mut end = start + 1;
    while is_mark(tokens.get(end), ':') && is_mark(tokens.get(end + 1), ':') {
        let Some(name) = tokens.get(end + 2).and_then(word) else {
            break;
        };
        path.push(name);
        end += 3;
    }
    (path, end)
}

/// The tokens of some code, unless `with_tests` but for what has the attribute `cfg(test)`.
fn tokens_of(code: TokenStream, with_tests: bool) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = code.into_iter().collect();
    if with_tests {
        return tokens;
    }
    let mut found = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        let is_test = is_mark(Some(&tokens[i]), '#')
            && matches!(tokens.get(i + 1), Some(TokenTree::Group(group)) if is_for_tests(group));
        if is_test {
            i = end_of_item(&tokens, i);
        } else {
            found.push(tokens[i].clone());
            i += 1;
        }
    }
    found
}

/// Whether an attribute is `cfg(test)`, or one that says more.
fn is_for_tests(attribute: &Group) -> bool {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    match &tokens[..] {
        [name, TokenTree::Group(inner)] if is_word(name, "cfg") || is_word(name, "all") => {
            let inner: Vec<TokenTree> = inner.stream().into_iter().collect();
            let mut parts = inner.split(|token| is_mark(Some(token), ','));
            parts.any(|part| match part {
                [name] => is_word(name, "test"),
                [name, TokenTree::Group(_)] if is_word(name, "all") => {
                    let part: TokenStream = part.iter().cloned().collect();
                    is_for_tests(&Group::new(Delimiter::Bracket, part))
                }
                _ => false,
            })
        }
        _ => false,
    }
}

/// Where the item, member or statement ends whose attributes begin at `start`.
fn end_of_item(tokens: &[TokenTree], start: usize) -> usize {
    let mut i = start;
    while is_mark(tokens.get(i), '#') {
        i += 2;
    }
    let rest = tokens.get(i..).unwrap_or_default();
    let opens = |token: &TokenTree| braces(token).is_some();
    let ends = |token: &TokenTree, marks: &[char]| marks.iter().any(|m| is_mark(Some(token), *m));
    let has = |names: &[&str]| {
        let head = rest
            .iter()
            .take_while(|token| !opens(token) && !ends(token, &[';', '=']));
        let words: Vec<String> = head.filter_map(word).collect();
        names
            .iter()
            .any(|name| words.iter().any(|word| word == name))
    };
    let end = if has(&["enum", "fn", "impl", "mod", "struct", "trait"]) {
        rest.iter()
            .position(|token| opens(token) || ends(token, &[';']))
    } else if has(&["const", "let", "static", "type", "use"]) {
        rest.iter().position(|token| ends(token, &[';']))
    } else {
        rest.iter().position(|token| ends(token, &[';', ',']))
    };
    i + end.map_or(rest.len(), |end| end + 1)
}

/// Whether a word is before the name of what it defines.
fn defines(word: &str) -> bool {
    const WORDS: [&str; 9] = [
        "const", "enum", "fn", "mod", "static", "struct", "trait", "type", "union",
    ];
    WORDS.contains(&word)
}

fn word(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_word(token: &TokenTree, text: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == text)
}

fn is_mark(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

fn braces(token: &TokenTree) -> Option<&Group> {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    }
}
