//! Characters that show as something else.

/// Whether a terminal or a page shows `c` as something else than itself: control characters move the
/// cursor, Unicode's `Bidi_Control` reorders what is around it, and spaces without a width are not seen.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}
