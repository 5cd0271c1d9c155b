//! Names kinds of recipients for people.

/// Says for people what opens a data key wrapped to recipients of these kinds:
/// `2 age keys (X25519), 1 passphrase`.
pub fn opens_with(kinds: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for kind in kinds {
        match counts.iter_mut().find(|(seen, _)| seen == kind) {
            Some((_, n)) => *n += 1,
            None => counts.push((kind, 1)),
        }
    }
    let terms = counts.iter().map(|(kind, n)| {
        let plural = if *n == 1 { "" } else { "s" };
        match *kind {
            "scrypt" => format!("{n} passphrase{plural}"),
            "X25519" => format!("{n} age key{plural} (X25519)"),
            "mlkem768x25519" => format!("{n} post-quantum age key{plural} ({kind})"),
            "ssh-ed25519" | "ssh-rsa" => format!("{n} ssh key{plural} ({kind})"),
            _ if kind.ends_with("tag") => format!("{n} tagged key{plural} ({kind})"),
            _ => format!("{n} key{plural} of a plugin ({kind})"),
        }
    });
    match counts.len() {
        0 => "no key that is known".to_owned(),
        _ => terms.collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_in_words() {
        let opens = |kinds: &[&str]| {
            opens_with(
                &kinds
                    .iter()
                    .map(|kind| kind.to_string())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            opens(&["X25519", "scrypt", "X25519"]),
            "2 age keys (X25519), 1 passphrase"
        );
        assert_eq!(
            opens(&["ssh-rsa", "p256tag", "yubikey"]),
            "1 ssh key (ssh-rsa), 1 tagged key (p256tag), 1 key of a plugin (yubikey)"
        );
        assert_eq!(opens(&[]), "no key that is known");
    }
}
