//! Text that is safe to show on a terminal, wherever it comes from.

use std::io::{self, Write};

use onnxseal_core::{is_deceptive, redact};

/// Prints a note or an error on standard error.
pub fn note(text: &str) {
    // Where that fails there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// So many of what a word says, such as `2 files`.
pub fn count(n: u64, word: &str) -> String {
    match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    }
}

/// The exceptions to a statement about every byte: `entries` of the metadata.
pub fn except(entries: &[String]) -> String {
    match entries {
        [] => String::new(),
        _ => format!(", except {}", entries.join(", ")),
    }
}

/// `text` without secrets, and with everything escaped that moves the cursor, reorders what is shown
/// or is not seen. Line breaks stay.
pub fn printable(text: &str) -> String {
    let text = redact(text);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            _ if is_deceptive(c) => shown.extend(c.escape_unicode()),
            _ => shown.push(c),
        }
    }
    shown
}

/// The same for a text that is part of a line.
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// JSON in which strings have such characters as escapes, which mean the same.
pub fn json_text(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' => text.push(c),
            // None of them is above U+FFFF, and none stands outside of strings.
            _ if is_deceptive(c) => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => text.push(c),
        }
    }
    text
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
