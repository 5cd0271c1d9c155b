//! Licences: files that open models for one customer, and leave the models as they are.
//! `docs/FORMAT.md` describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use onnxseal_crypto::signature::{self, AllowedSigners, ClaimedSigner, Signer, fingerprint_of};
use onnxseal_crypto::wrap::{Header, check_wrapped};
use onnxseal_onnx::excerpt;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::format::dates::{Moment, NOT_AFTER, NOT_BEFORE, moments, now, out_of_force, stamp};
use crate::format::manifest::json;
use crate::format::tiers::is_tier_name;

/// The longest licence to read, in bytes.
pub const MAX_LICENCE_BYTES: usize = 1 << 20;

/// The end of the name of a licence that lies beside a model, after the model's name.
pub(crate) const LICENCE_SUFFIX: &str = ".licence";

/// The most models of a licence: their keys fit into a wrapped key.
pub const MAX_LICENSED_MODELS: usize = 1024;

const MAGIC: &str = "onnxseal licence ";
const VERSION: &str = "1";
const AGE_END: &str = "-----END AGE ENCRYPTED FILE-----\n";
/// The word for the tier of a model of one edition.
pub(crate) const NO_TIER: &str = "-";
const MAX_NAME_BYTES: usize = 255;

/// A licence, well-formed. Its statements are proven only once a model was opened with it, or its
/// signature was checked.
#[derive(Clone, Debug)]
pub struct Licence {
    /// Where it lies, for messages.
    pub(crate) path: PathBuf,
    /// Whether models that it does not list are opened without it.
    pub(crate) is_optional: bool,
    models: Vec<LicensedModel>,
    claims: BTreeMap<String, String>,
    text: String,
    /// Where the wrapped keys lie in the text. The MAC's line follows them.
    wrapped_at: std::ops::Range<usize>,
    pub(crate) mac: [u8; 32],
    /// Where the signature begins, or the text ends.
    signed: usize,
}

/// A model that a licence opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LicensedModel {
    /// SHA-256 of the MACs of the protected model, in hexadecimal digits.
    pub digest: String,
    /// The tier that it opens; absent for a model of one edition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// A name for people.
    pub name: String,
}

#[derive(Deserialize)]
struct Claims(#[serde(deserialize_with = "json::claims")] BTreeMap<String, String>);

impl LicensedModel {
    /// Names a protected model with these MACs after the file that `name` ends with.
    pub(crate) fn new(mac: &[u8], tier: Option<&str>, name: &Path) -> LicensedModel {
        let name = name
            .file_name()
            .unwrap_or(name.as_os_str())
            .to_string_lossy();
        let mut name: String = name
            .chars()
            .map(|c| if is_plain(c) { c } else { '_' })
            .collect();
        let end = (0..=MAX_NAME_BYTES.min(name.len())).rfind(|at| name.is_char_boundary(*at));
        name.truncate(end.unwrap_or(0));
        LicensedModel {
            digest: digest_of(mac),
            tier: tier.map(str::to_owned),
            name,
        }
    }

    fn parse(line: &str) -> Option<LicensedModel> {
        let (digest, rest) = line.split_once(' ')?;
        let (tier, name) = rest.split_once(' ')?;
        let is_name = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(is_plain);
        let is_legal = is_name && hex(digest).is_some() && (tier == NO_TIER || is_tier_name(tier));
        is_legal.then(|| LicensedModel {
            digest: digest.to_owned(),
            tier: Some(tier.to_owned()).filter(|tier| tier != NO_TIER),
            name: name.to_owned(),
        })
    }
}

impl Licence {
    /// Parses a licence. `path` is for messages.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Licence> {
        parse(path, bytes).map_err(|reason| Error::Licence {
            path: path.to_owned(),
            reason,
        })
    }

    /// Returns the models that it opens.
    pub fn models(&self) -> &[LicensedModel] {
        &self.models
    }

    /// Returns what it says of itself: the customer, dates, whatever its issuer wrote.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.claims
    }

    /// Returns the key that its signature claims; `None` without one. [`Licence::check_signed`]
    /// proves the claim.
    pub fn claimed_signer(&self) -> Option<ClaimedSigner> {
        fingerprint_of(self.signature()?).ok()
    }

    /// Returns the armored age file with the keys.
    pub fn wrapped(&self) -> &str {
        self.text.get(self.wrapped_at.clone()).unwrap_or_default()
    }

    /// Returns the kinds of its recipients and the notes on them, in clear and not authenticated.
    pub fn header(&self) -> Header {
        Header::read(self.wrapped()).unwrap_or_default()
    }

    /// Returns the claim that keeps it from opening models now, and its date.
    pub fn out_of_force(&self) -> Option<(&'static str, &str)> {
        out_of_force(&self.claims, now())
    }

    /// Fails if it does not open models at the present time.
    pub fn check_in_force(&self) -> Result<()> {
        check_in_force(&self.path, &self.claims, now())
    }

    /// Checks that one of `allowed` signed it, `signer` if one is named.
    pub fn check_signed(&self, allowed: &AllowedSigners, signer: Option<&str>) -> Result<Signer> {
        let path = || self.path.clone();
        let signature = self.signature().ok_or_else(|| Error::NotSigned(path()))?;
        let message = self.text.get(..self.signed).unwrap_or_default();
        let signed = allowed.verify(signer, message.as_bytes(), signature);
        signed.map_err(|source| Error::Signature {
            path: path(),
            source,
        })
    }

    /// Returns the index of the model with these MACs.
    pub(crate) fn index_of(&self, mac: &[u8]) -> Option<usize> {
        let digest = digest_of(mac);
        (self.models.iter()).position(|model| model.digest == digest)
    }

    /// Returns the bytes that the MAC covers.
    pub(crate) fn maced(&self) -> &[u8] {
        (self.text.as_bytes().get(..self.wrapped_at.end)).unwrap_or_default()
    }

    fn signature(&self) -> Option<&str> {
        self.text.get(self.signed..).filter(|text| !text.is_empty())
    }
}

/// Fails if the model or licence at `path` with these claims does not open at `at`.
pub(crate) fn check_in_force(
    path: &Path,
    claims: &BTreeMap<String, String>,
    at: Moment,
) -> Result<()> {
    let Some((key, date)) = out_of_force(claims, at) else {
        return Ok(());
    };
    let contact = claims.get("contact").or_else(|| claims.get("issuer"));
    Err(Error::NotInForce {
        path: path.to_owned(),
        key,
        date: date.to_owned(),
        now: stamp(at),
        contact: contact.map(|contact| excerpt(contact)),
    })
}

/// Writes the part of a licence that the MAC covers.
#[cfg(feature = "protect")]
pub(crate) fn encode(
    models: &[LicensedModel],
    claims: &BTreeMap<String, String>,
    wrapped: &str,
) -> Result<String> {
    let mut text = format!("{MAGIC}{VERSION}\n");
    for LicensedModel { digest, tier, name } in models {
        let tier = tier.as_deref().unwrap_or(NO_TIER);
        text += &format!("model {digest} {tier} {name}\n");
    }
    let claims = serde_json::to_string(claims).map_err(|error| Error::Usage(error.to_string()))?;
    Ok(text + &format!("claims {claims}\n") + wrapped)
}

/// Adds the line of the MAC.
#[cfg(feature = "protect")]
pub(crate) fn with_mac(text: &str, mac: &[u8; 32]) -> String {
    format!("{text}mac {}\n", base16ct::lower::encode_string(mac))
}

fn parse(path: &Path, bytes: Vec<u8>) -> std::result::Result<Licence, String> {
    if bytes.len() > MAX_LICENCE_BYTES {
        return Err(format!("more than {MAX_LICENCE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(match text.contains('\r') {
            true => "its line ends were changed: get it again, as a binary file".into(),
            false => "it has control characters".into(),
        });
    }
    let rest = text.strip_prefix(MAGIC).ok_or("it is no licence")?;
    let (version, mut rest) = rest.split_once('\n').ok_or("its first line has no end")?;
    if version != VERSION {
        let version = excerpt(version);
        return Err(format!(
            "version {version:?} (this program reads {VERSION})"
        ));
    }
    let mut models = Vec::new();
    let mut digests = BTreeSet::new();
    while let Some(line) = line_of(&mut rest, "model ") {
        let n = models.len() + 1;
        let model = LicensedModel::parse(line).ok_or(format!("its line of model {n} is wrong"))?;
        if !digests.insert(model.digest.clone()) {
            return Err(format!("model {n} is listed twice"));
        }
        models.push(model);
        if models.len() > MAX_LICENSED_MODELS {
            return Err(format!("more than {MAX_LICENSED_MODELS} models"));
        }
    }
    if models.is_empty() {
        return Err("it names no model, or not after its first line".into());
    }
    let claims = line_of(&mut rest, "claims ").ok_or("its claims do not follow its models")?;
    let claims = claims_of(claims)?;
    let start = text.len() - rest.len();
    let end = start + rest.find(AGE_END).ok_or("its age file has no end")? + AGE_END.len();
    let wrapped = text.get(start..end).unwrap_or_default();
    check_wrapped(wrapped).map_err(|error| error.to_string())?;
    rest = text.get(end..).unwrap_or_default();
    let mac = line_of(&mut rest, "mac ").ok_or("its MAC does not follow its age file")?;
    let mac = hex(mac).ok_or("its MAC is not 64 lowercase hexadecimal digits")?;
    if !rest.is_empty() && !is_signature(rest) {
        return Err("what follows its MAC is no signature".into());
    }
    Ok(Licence {
        path: path.to_owned(),
        is_optional: false,
        models,
        claims,
        wrapped_at: start..end,
        mac,
        signed: text.len() - rest.len(),
        text,
    })
}

/// Returns whether a text may be an armored signature. Only a caller who demands one has it checked.
fn is_signature(text: &str) -> bool {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_at = |line, at: Option<&&str>| {
        at == Some(&line) && lines.iter().filter(|other| **other == line).count() == 1
    };
    text.len() <= signature::MAX_SIGNATURE_BYTES
        && is_at(signature::BEGIN, lines.first())
        && is_at(signature::END, lines.last())
}

fn claims_of(json: &str) -> std::result::Result<BTreeMap<String, String>, String> {
    let is_bare = json.starts_with('{') && json.ends_with('}');
    let claims = Some(json).filter(|_| is_bare).map(serde_json::from_str);
    let Some(Ok(Claims(claims))) = claims else {
        return Err("its claims are no JSON object of strings".into());
    };
    for key in [NOT_BEFORE, NOT_AFTER] {
        if let Some(value) = claims.get(key).filter(|value| moments(value).is_none()) {
            let value = excerpt(value);
            return Err(format!("{key} is {value:?}, which is no date"));
        }
    }
    Ok(claims)
}

/// Takes a line that begins with `word` off the text, and returns the rest of the line.
fn line_of<'a>(text: &mut &'a str, word: &str) -> Option<&'a str> {
    let (line, rest) = text.strip_prefix(word)?.split_once('\n')?;
    *text = rest;
    Some(line)
}

fn hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let decoded = base16ct::lower::decode(digits, &mut bytes);
    decoded.is_ok_and(|all| all.len() == 32).then_some(bytes)
}

fn digest_of(mac: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(mac))
}

fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')
}
