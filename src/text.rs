//! Text that is safe to show on a terminal, wherever it comes from.

use std::io::{self, Write};

use onnxseal_core::redact;

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

/// What follows a statement about every byte: the `entries` of the metadata that it leaves out.
pub fn except(entries: &[String]) -> String {
    match entries {
        [] => String::new(),
        _ => format!(", except {}", entries.join(", ")),
    }
}

/// `text` without secrets, and with everything escaped that moves the cursor or reorders what is
/// shown. Line breaks stay.
pub fn printable(text: &str) -> String {
    let text = redact(text);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            _ if c.is_control() || reorders(c) => shown.extend(c.escape_unicode()),
            _ => shown.push(c),
        }
    }
    shown
}

/// The same for a text that is part of a line.
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// Whether `c` is one of Unicode's `Bidi_Control` characters.
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    }
}
