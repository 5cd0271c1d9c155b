//! OpenSSH's `allowed_signers` file: `ssh-keygen(1)`, section ALLOWED SIGNERS.
//!
//! ```text
//! principals [options] keytype base64-key [comment]
//! ```

use std::io::Read;
use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

use super::{NAMESPACE, Signer, claimed, fingerprint, holds, parse};
use crate::error::{Error, NotAllowed};
use crate::limited::read_limited;

/// The longest allowed signers file to read, in bytes.
pub const MAX_ALLOWED_SIGNERS_BYTES: usize = 1 << 20;

/// Which keys may sign, for whom, for what and when.
#[derive(Clone)]
pub struct AllowedSigners(Vec<Line>);

opaque_debug!(AllowedSigners, |all| all.0.len());

#[derive(Clone)]
struct Line {
    /// A pattern list.
    principals: String,
    key: KeyData,
    options: Options,
}

#[derive(Clone, Debug, Default)]
struct Options {
    /// The key signs certificates, which we do not accept: the line allows nobody.
    cert_authority: bool,
    /// A pattern list.
    namespaces: Option<String>,
    /// Seconds since 1970, UTC; the key is valid from this one on.
    valid_after: Option<u64>,
    /// Seconds since 1970, UTC; the key is valid up to this one.
    valid_before: Option<u64>,
}

impl AllowedSigners {
    /// Reads an allowed signers file as `ssh-keygen` does, but refuses the whole file for one
    /// malformed line. `name` is for error messages.
    ///
    /// Times without a `Z` would be in the system's time zone, and are refused. Lines with
    /// `cert-authority` allow nobody, because signatures by certificates are not accepted.
    pub fn read(file: impl Read, name: &str) -> Result<AllowedSigners, Error> {
        let what = "allowed signers file length in bytes";
        let bytes = read_limited(file, name, MAX_ALLOWED_SIGNERS_BYTES, what)?;
        let unusable = |n, reason| Error::unusable(&format!("{name}, line {n}"), reason);
        let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
        let read = |(n, line)| parse_line(line).map_err(|why| unusable(n, why)).transpose();
        let lines = lines.filter_map(read).collect::<Result<_, _>>();
        lines.map(AllowedSigners)
    }

    /// Returns the file's lines in canonical spelling: files with equal lines allow equal signers.
    /// The lines contain no secrets.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|line| {
            let key = fingerprint(&line.key);
            format!("{:?} {key} {:?}", line.principals, line.options)
        })
    }

    /// Checks `armored` over `message` as `ssh-keygen -Y verify` does now: the signature is valid,
    /// in our namespace, and by a key that the file allows for that namespace at this time, and for
    /// `signer` if one is named.
    pub fn verify(
        &self,
        signer: Option<&str>,
        message: &[u8],
        armored: &str,
    ) -> Result<Signer, Error> {
        // A clock before 1970 is wrong: then keys with a start time are refused.
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.verify_at(signer, message, armored, now)
    }

    /// Verifies as [`verify`](Self::verify) does, at a time in seconds since 1970, UTC.
    pub(super) fn verify_at(
        &self,
        signer: Option<&str>,
        message: &[u8],
        armored: &str,
        now: u64,
    ) -> Result<Signer, Error> {
        let signature = parse(armored)?;
        holds(&signature, message)?;
        let claimed = claimed(&signature);
        match self.principals_of(signature.public_key(), signer, now) {
            Ok(principals) => Ok(Signer {
                principals,
                fingerprint: claimed.fingerprint,
                key_type: claimed.key_type,
            }),
            Err(reason) => Err(Error::SignerNotAllowed(claimed.fingerprint, reason)),
        }
    }

    /// Returns the principals for whom the file allows the key, or else the nearest reason against
    /// it.
    fn principals_of(
        &self,
        key: &KeyData,
        signer: Option<&str>,
        now: u64,
    ) -> Result<Vec<String>, NotAllowed> {
        let mut principals = Vec::new();
        let mut closest = NotAllowed::UnknownKey;
        for line in &self.0 {
            match line.allows(key, signer, now) {
                // A line with only negated principals allows nobody.
                Ok(()) if line.principals.split(',').all(|name| name.starts_with('!')) => {
                    closest = closest.max(NotAllowed::Principal);
                }
                Ok(()) => {
                    for principal in line.principals.split(',') {
                        if !principals.contains(&principal) {
                            principals.push(principal);
                        }
                    }
                }
                Err(reason) => closest = closest.max(reason),
            }
        }
        match signer {
            _ if principals.is_empty() => Err(closest),
            Some(signer) => Ok(vec![signer.to_owned()]),
            None => Ok(principals.into_iter().map(str::to_owned).collect()),
        }
    }
}

impl Line {
    fn allows(&self, key: &KeyData, signer: Option<&str>, now: u64) -> Result<(), NotAllowed> {
        let options = &self.options;
        if options.cert_authority || self.key != *key {
            return Err(NotAllowed::UnknownKey);
        }
        if signer.is_some_and(|signer| !matches_list(signer, &self.principals)) {
            return Err(NotAllowed::Principal);
        }
        let namespaces = options.namespaces.as_deref();
        if namespaces.is_some_and(|list| !matches_list(NAMESPACE, list)) {
            return Err(NotAllowed::Namespace);
        }
        if options.valid_after.is_some_and(|after| now < after) {
            return Err(NotAllowed::NotYetValid);
        }
        if options.valid_before.is_some_and(|before| now > before) {
            return Err(NotAllowed::Expired);
        }
        Ok(())
    }
}

// --- lines ---

fn parse_line(line: &[u8]) -> Result<Option<Line>, &'static str> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r');
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    if line.contains('\0') {
        return Err("it has a NUL character");
    }
    let (principals, rest) = split_principals(line)?;
    let rest = rest.trim_start_matches(blank);
    let (options, key) = match parse_key(rest) {
        Some(key) => (Options::default(), key),
        None => {
            let (options, rest) = split_options(rest)?;
            let rest = rest.trim_start_matches(blank);
            if rest.is_empty() {
                return Err("the key is missing or malformed");
            }
            let key = parse_key(rest).ok_or("the key is malformed, or of an unknown type")?;
            (parse_options(options)?, key)
        }
    };
    Ok(Some(Line {
        principals,
        key,
        options,
    }))
}

/// Splits off the principals. They end at a blank, or where quotes around a part of them end.
fn split_principals(line: &str) -> Result<(String, &str), &'static str> {
    let missing = "the key is missing";
    let end = line.find([' ', '\t', '\r', '"']).ok_or(missing)?;
    let (start, rest) = line.split_at(end);
    match rest.strip_prefix('"') {
        None => Ok((start.to_owned(), rest)),
        Some(rest) => {
            let (quoted, rest) = rest.split_once('"').ok_or("a quote does not end")?;
            Ok((format!("{start}{quoted}"), rest))
        }
    }
}

/// Splits off the options, which end at a blank outside of quotes.
fn split_options(text: &str) -> Result<(&str, &str), &'static str> {
    let (mut is_quoted, mut last) = (false, ' ');
    let end = text.find(|c| {
        is_quoted ^= c == '"' && last != '\\';
        last = c;
        matches!(c, ' ' | '\t') && !is_quoted
    });
    match end {
        Some(end) => Ok(text.split_at(end)),
        None if is_quoted => Err("a quote does not end"),
        None => Err("the key is missing or malformed"),
    }
}

fn parse_key(text: &str) -> Option<KeyData> {
    let mut fields = text.split([' ', '\t']).filter(|field| !field.is_empty());
    let key = format!("{} {}", fields.next()?, fields.next()?);
    PublicKey::from_openssh(&key)
        .ok()
        .map(|key| key.key_data().clone())
        .filter(|key| !matches!(key, KeyData::Other(_)))
}

fn parse_options(text: &str) -> Result<Options, &'static str> {
    let mut options = Options::default();
    let mut rest = text;
    loop {
        let to = &mut options;
        if let Some(after) = strip_word(rest, "cert-authority") {
            to.cert_authority = true;
            rest = after;
        } else if let Some(after) = strip_word(rest, "namespaces=") {
            let twice = "there are two options namespaces";
            rest = once(after, &mut to.namespaces, Ok, twice)?;
        } else if let Some(after) = strip_word(rest, "valid-after=") {
            let twice = "there are two options valid-after";
            rest = once(after, &mut to.valid_after, parse_time, twice)?;
        } else if let Some(after) = strip_word(rest, "valid-before=") {
            let twice = "there are two options valid-before";
            rest = once(after, &mut to.valid_before, parse_time, twice)?;
        }
        rest = match rest.strip_prefix(',') {
            Some(after) if !after.is_empty() => after,
            None if rest.is_empty() => break,
            _ => return Err("an option is unknown or malformed"),
        };
    }
    match (options.valid_after, options.valid_before) {
        (Some(after), Some(before)) if before <= after => Err("valid-before is before valid-after"),
        _ => Ok(options),
    }
}

/// Reads the quoted value of an option, which may stand there once. Returns the text after it.
fn once<'a, T>(
    text: &'a str,
    to: &mut Option<T>,
    read: impl FnOnce(String) -> Result<T, &'static str>,
    twice: &'static str,
) -> Result<&'a str, &'static str> {
    let (value, after) = dequote(text)?;
    match to.replace(read(value)?) {
        None => Ok(after),
        Some(_) => Err(twice),
    }
}

/// Strips a prefix, ignoring case.
fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

/// Splits off a quoted value, in which `\"` is a quote.
fn dequote(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.strip_prefix('"');
    let text = text.ok_or("the value of an option is not in quotes")?;
    let mut quotes = text.match_indices('"');
    let end = quotes.find(|(at, _)| !text[..*at].ends_with('\\'));
    let (end, _) = end.ok_or("a quote does not end")?;
    Ok((text[..end].replace("\\\"", "\""), &text[end + 1..]))
}

// --- times ---

/// Reads `YYYYMMDD[HHMM[SS]]`, in UTC with a `Z` or `UTC` after it.
fn parse_time(text: String) -> Result<u64, &'static str> {
    let invalid = "a time is not YYYYMMDD[HHMM[SS]][Z]";
    let upper = text.to_ascii_uppercase();
    let digits = upper.strip_suffix('Z').or(upper.strip_suffix("UTC"));
    let digits = digits.ok_or("a time has no Z, so it is local: write it in UTC, with a Z")?;
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid);
    }
    let digits = format!("{digits:0<14}");
    let two = |from: usize| digits[from..][..2].parse::<i8>().unwrap_or_default();
    let year = 100 * i16::from(two(0)) + i16::from(two(2));
    let time = DateTime::new(year, two(4), two(6), two(8), two(10), two(12), 0);
    let time = time.and_then(|time| TimeZone::UTC.to_timestamp(time));
    let seconds = time.map_err(|_| invalid)?.as_second();
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .ok_or("a time is out of range")
}

// --- patterns ---

/// Returns whether a comma-separated list has a matching pattern, and no matching pattern with a
/// `!`.
fn matches_list(text: &str, patterns: &str) -> bool {
    let mut is_matched = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches_pattern(text.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => is_matched |= matches_pattern(text.as_bytes(), pattern.as_bytes()),
        }
    }
    is_matched
}

/// Returns whether `pattern` matches all of `text`: `*` stands for any number of bytes, `?` for
/// one.
fn matches_pattern(text: &[u8], pattern: &[u8]) -> bool {
    // Whether what was read of the pattern matches the first n bytes.
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    for wanted in pattern {
        if *wanted == b'*' {
            let shortest = matched.iter().position(|matched| *matched);
            matched[shortest.unwrap_or(text.len() + 1)..].fill(true);
        } else {
            matched.rotate_right(1);
            matched[0] = false;
            for (matched, byte) in matched[1..].iter_mut().zip(text) {
                *matched &= *wanted == b'?' || wanted == byte;
            }
        }
    }
    matched[text.len()]
}
