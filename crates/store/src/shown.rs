//! Characters that display as something else.

/// Returns whether `c` misleads readers of a terminal or a page: control characters move the
/// cursor, Unicode's `Bidi_Control` reorders its surroundings, and zero-width spaces are invisible.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}
