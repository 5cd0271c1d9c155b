//! Makes text from any source safe to show on a terminal.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use onnxseal_core::{File, is_deceptive, redact};

/// Whether the user asks for errors alone, or a result goes to standard output.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out progress, notes and reports from now on.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints a note, unless the command is quiet.
pub fn tell(text: &str) {
    if !is_quiet() {
        note(text);
    }
}

/// Prints a line on standard error.
pub fn note(text: &str) {
    // A failure cannot be reported anywhere else.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// Formats a count with a word, such as `2 files`.
pub fn count(n: u64, word: &str) -> String {
    match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    }
}

/// Formats a number of bytes for people.
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// Gathers values by key, in the order in which the keys come first.
pub fn grouped<K: PartialEq, V>(pairs: impl Iterator<Item = (K, V)>) -> Vec<(K, Vec<V>)> {
    let mut groups: Vec<(K, Vec<V>)> = Vec::new();
    for (key, value) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// Lists the paths of the first of many files.
pub fn few(files: &[File]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = (files.iter().take(SHOWN))
        .map(|file| one_line(&file.path))
        .collect();
    match files.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Formats `entries` of the metadata as exceptions to a statement about every byte.
pub fn except(entries: &[String]) -> String {
    match entries {
        [] => String::new(),
        _ => format!(", except {}", entries.join(", ")),
    }
}

/// Removes secrets from `text`, and escapes characters that move the cursor, reorder text or are
/// invisible. Line breaks stay.
pub fn printable(text: &str) -> String {
    escaped(&redact(text), |c| c.escape_unicode().to_string())
}

/// Makes text printable as [`printable`] does, on one line.
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// Escapes such characters in JSON strings, which keep their meaning.
pub fn json_text(json: &str) -> String {
    // All of them are below U+10000, and occur only inside strings.
    escaped(json, |c| format!("\\u{:04x}", u32::from(c)))
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) && c != '\n' {
            shown.push_str(&escape(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(
            printable("a\u{1b}[2J\r\u{7f}b"),
            "a\\u{1b}[2J\\u{d}\\u{7f}b"
        );
        assert_eq!(printable("\u{9b}2J\u{202e}x"), "\\u{9b}2J\\u{202e}x");
        assert_eq!(
            printable("Gewicht \"ü\" \\ 重み\nzwei"),
            "Gewicht \"ü\" \\ 重み\nzwei"
        );
        assert_eq!(one_line("a\nb"), "a\\nb");
        assert_eq!(one_line("a\u{200b}b"), "a\\u{200b}b");
    }

    #[test]
    fn json_shows_what_it_has() {
        let odd = "\u{9b}2J \u{202e}x\u{200b}\u{7f}\u{1b}重み";
        let json = json_text(&serde_json::to_string_pretty(&[odd]).unwrap_or_default());
        assert!(
            !json.chars().any(|c| c != '\n' && is_deceptive(c)),
            "{json}"
        );
        assert!(json.contains("\\u202e") && json.contains("重み"));
        let read: Vec<String> = serde_json::from_str(&json).unwrap_or_default();
        assert_eq!(read, [odd]);
    }
}
