//! Suggests names for misspelt ones.

/// The least similarity, from 0 to 1, of a suggestion.
const SIMILAR: f64 = 0.75;

/// The most names to compare: a hostile model may have a million.
const MAX_NAMES: usize = 10_000;

/// The most bytes of a name to compare.
const MAX_NAME_BYTES: usize = 256;

/// Returns the most similar of `names`, with or without a domain, if one is similar enough.
pub(crate) fn similar<N: Into<String> + AsRef<str>>(
    name: &str,
    names: impl Iterator<Item = N>,
) -> Option<String> {
    let wanted = name.to_lowercase();
    let alike = |name: &str| {
        let name = name.to_lowercase();
        let bare = name.rsplit('.').next().unwrap_or_default();
        strsim::jaro(&wanted, &name).max(strsim::jaro(&wanted, bare))
    };
    let names = names
        .take(MAX_NAMES)
        .filter(|name| name.as_ref().len() <= MAX_NAME_BYTES);
    let scored = names.map(|name| (alike(name.as_ref()), name));
    let best = scored.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let (score, name) = best?;
    (score >= SIMILAR).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant() {
        let names = || {
            [
                "Conv",
                "ConvTranspose",
                "com.microsoft.QAttention",
                "MatMul",
            ]
            .into_iter()
        };
        for (slip, meant) in [
            ("Cnov", Some("Conv")),
            ("conv", Some("Conv")),
            ("QAttention", Some("com.microsoft.QAttention")),
            ("Matmull", Some("MatMul")),
            ("LSTM", None),
            ("", None),
        ] {
            assert_eq!(similar(slip, names()).as_deref(), meant, "{slip}");
        }
        assert_eq!(similar("w", ["x".repeat(1 << 20)].into_iter()), None);
    }
}
