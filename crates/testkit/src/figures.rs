//! Figures of benchmarks, next to what is asked of them.

/// What a figure is asked to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// Prints a line for a figure: asked, measured, met or missed. `unit` follows the numbers: `" x cp"`.
pub fn print(what: &str, asked: Asked, measured: f64, unit: &str) {
    println!("  {}", line(what, asked, measured, unit));
}

fn line(what: &str, asked: Asked, measured: f64, unit: &str) -> String {
    let (text, is_met) = match asked {
        Asked::AtMost(limit) => (format!("at most {limit:.2}"), measured <= limit),
        Asked::AtLeast(limit) => (format!("at least {limit:.2}"), measured >= limit),
    };
    let met = if is_met { "met" } else { "MISSED" };
    format!("figure: {what}: asked {text}{unit}, measured {measured:.2}{unit}: {met}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_met_up_to_its_limit() {
        let of = |asked, measured| line("f", asked, measured, " s");
        let at_most = of(Asked::AtMost(1.1), 1.1);
        assert_eq!(
            at_most,
            "figure: f: asked at most 1.10 s, measured 1.10 s: met"
        );
        assert!(of(Asked::AtMost(1.1), 1.2).ends_with(": MISSED"));
        assert!(of(Asked::AtLeast(0.95), 0.95).ends_with(": met"));
        assert!(of(Asked::AtLeast(0.95), 0.5).ends_with(": MISSED"));
    }
}
