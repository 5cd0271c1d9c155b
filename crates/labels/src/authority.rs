//! The vendor's secret: it makes keys, protects models, and identifies the key behind answers.

use std::fmt;
use std::io::Read;
use std::path::Path;

use base16ct::lower::encode_string;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_crypto::labels::{LabelSeed, LabelSigner};
use onnxseal_crypto::wrap::{Identities, Recipients, key_text, read_secret};
use onnxseal_store::parallel;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Error, Result};
use crate::exponents::Exponents;
use crate::group::{MAX_COLLUSION, POINT_BYTES, Place, Row, reveal};
use crate::key::{UserKey, check_name, from_hex, io, user_id};
use crate::traces::{innocent, threshold};

/// The longest file, in bytes, with the inputs of traces.
const MAX_BYTES: usize = 1 << 30;

const VERSION: u32 = 1;

/// A label authority. Its secrets are zeroized on drop.
pub struct Authority {
    seed: LabelSeed,
    exponents: Exponents,
    signer: LabelSigner,
    book: Book,
}

/// The file without the seed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Book {
    onnxseal_label_authority: u32,
    collusion: u32,
    recipients: Vec<String>,
    users: Vec<User>,
    models: Vec<Protected>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    revoked: bool,
}

/// The whole file.
#[derive(Deserialize)]
struct File {
    seed: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// The authority's record of a model with protected labels.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    pub digest: String,
    pub file: String,
    pub classes: u32,
    pub codewords: u32,
    pub traces: Vec<TraceRow>,
    /// The inputs to which these answer, in order: one array for each input of the model, with T
    /// rows.
    pub inputs: Vec<TraceInput>,
    /// The share of held-out calibration samples on which a trace fired.
    pub firing: Option<f64>,
    pub samples: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRow {
    pub row: u32,
    points: String,
    pad: u32,
}

pub const SHOWN: usize = 5;

/// The inputs of all traces, for one input of the model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TraceInput {
    pub name: String,
    /// Element type in NumPy's notation, little-endian: `<f4`, `|u1`, ...
    pub dtype: String,
    /// Shape, with T first.
    pub shape: Vec<u64>,
    pub data: String,
}

/// A user, and how many traces answered as with their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub name: String,
    pub matches: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// All users, by descending matches.
    pub suspects: Vec<Suspect>,
    pub traces: usize,
    /// The least matches for an accusation; `None` if no number would be enough.
    pub threshold: Option<usize>,
    /// The probability that any innocent user has as many matches as the first suspect.
    pub innocent: f64,
}

impl Verdict {
    /// Returns the verdict with the first suspects, as `onnxseal labels trace --json` prints it.
    pub fn to_json(&self) -> serde_json::Value {
        let suspects =
            self.suspects.iter().take(SHOWN).map(
                |suspect| serde_json::json!({"user": suspect.name, "matches": suspect.matches}),
            );
        serde_json::json!({
            "traces": self.traces,
            "threshold": self.threshold,
            "accused": self.accused().map(|suspect| &*suspect.name).collect::<Vec<_>>(),
            "probability_of_an_innocent": self.innocent,
            "suspects": suspects.collect::<Vec<_>>(),
        })
    }

    pub fn accused(&self) -> impl Iterator<Item = &Suspect> {
        let enough = |suspect: &&Suspect| {
            self.threshold
                .is_some_and(|threshold| suspect.matches >= threshold)
        };
        self.suspects.iter().filter(enough)
    }
}

impl Authority {
    /// Makes a new authority. Its file is encrypted to `recipients`, if given.
    pub fn generate(collusion: u32, recipients: Option<&Recipients>) -> Result<Authority> {
        if !(1..=MAX_COLLUSION).contains(&collusion) {
            return Err(Error::Usage(format!(
                "a bound on colluders is 1 to {MAX_COLLUSION}"
            )));
        }
        let recipients =
            recipients.map(|recipients| recipients.names().map(str::to_owned).collect());
        let book = Book {
            onnxseal_label_authority: VERSION,
            collusion,
            recipients: recipients.unwrap_or_default(),
            users: Vec::new(),
            models: Vec::new(),
        };
        Authority::new(LabelSeed::generate()?, book)
    }

    fn new(seed: LabelSeed, book: Book) -> Result<Authority> {
        Ok(Authority {
            exponents: Exponents::new(&seed, book.collusion)?,
            signer: seed.signer()?,
            seed,
            book,
        })
    }

    /// Reads an authority file, and decrypts it with `identities` if it is an age file.
    pub fn read(
        file: impl Read,
        path: &Path,
        identities: Option<&Identities>,
    ) -> Result<Authority> {
        let malformed = |reason: &str| Error::MalformedAuthority {
            reason: reason.to_owned(),
        };
        let bytes = read_secret(file, MAX_BYTES).map_err(io(path))?;
        if bytes.len() > MAX_BYTES {
            return Err(malformed("it is too long"));
        }
        let text = key_text(&bytes, identities, "the authority")?;
        Authority::from_text(&text.ok_or_else(|| malformed("it is no text"))?)
    }

    pub fn from_text(text: &str) -> Result<Authority> {
        let malformed = |reason: String| Error::MalformedAuthority { reason };
        // Messages quote no part of the file, since a seed may be misplaced.
        let at =
            |error: serde_json::Error| malformed(format!("line {} cannot be read", error.line()));
        let mut file: File = serde_json::from_str(text).map_err(at)?;
        let seed = LabelSeed::from_hex(&file.seed);
        file.seed.zeroize();
        let seed = seed
            .ok_or_else(|| malformed("its seed is not 64 lowercase hexadecimal digits".into()))?;
        let book: Book = serde_json::from_value(file.rest.into())
            .map_err(|_| malformed("a member is missing, unknown, or of another type".into()))?;
        let check = || {
            if book.onnxseal_label_authority != VERSION {
                return Err("this program reads version 1".to_owned());
            }
            if !(1..=MAX_COLLUSION).contains(&book.collusion) {
                return Err(format!(
                    "its bound on colluders is not 1 to {MAX_COLLUSION}"
                ));
            }
            let mut names: Vec<&str> = book.users.iter().map(|user| &*user.name).collect();
            names.iter().try_for_each(|name| check_name(name))?;
            names.sort_unstable();
            if names.windows(2).any(|pair| pair[0] == pair[1]) {
                Err("two users have one name".to_owned())
            } else {
                Ok(())
            }
        };
        check().map_err(malformed)?;
        Authority::new(seed, book)
    }

    pub fn to_text(&self) -> Result<Zeroizing<String>> {
        let book =
            serde_json::to_string_pretty(&self.book).map_err(|_| Error::MalformedAuthority {
                reason: "it cannot be written".into(),
            })?;
        // Allocated once: a string that grows leaves secrets behind.
        let mut text = Zeroizing::new(String::with_capacity(book.len() + 128));
        text.push_str("{\n  \"seed\": \"");
        text.push_str(&self.seed.to_hex());
        text.push_str("\",");
        text.push_str(book.strip_prefix('{').unwrap_or_default());
        text.push('\n');
        Ok(text)
    }

    /// Returns the file, encrypted to the authority's recipients if it has any.
    pub fn to_file(&self) -> Result<Zeroizing<String>> {
        let text = self.to_text()?;
        match &self.book.recipients[..] {
            [] => Ok(text),
            recipients => Ok(Recipients::parse(recipients)?.encrypt_text(&text)?.into()),
        }
    }

    pub fn is_encrypted(&self) -> bool {
        !self.book.recipients.is_empty()
    }

    /// Returns the Ed25519 public key, which identifies the authority in tables and keys.
    pub fn public(&self) -> [u8; 32] {
        self.signer.public()
    }

    pub fn collusion(&self) -> u32 {
        self.book.collusion
    }

    pub fn users(&self) -> impl ExactSizeIterator<Item = (&str, bool)> {
        self.book
            .users
            .iter()
            .map(|user| (&*user.name, user.revoked))
    }

    /// Adds a user. Returns `false` if the user exists already.
    pub fn add_user(&mut self, name: &str) -> Result<bool> {
        check_name(name).map_err(Error::Usage)?;
        if self.book.users.iter().any(|user| user.name == name) {
            return Ok(false);
        }
        self.book.users.push(User {
            name: name.to_owned(),
            revoked: false,
        });
        Ok(true)
    }

    /// Returns the key of a listed user, always the same one.
    pub fn user_key(&self, name: &str) -> Result<UserKey> {
        let user = self.book.users.iter().find(|user| user.name == name);
        match user {
            None => Err(no_user(name)),
            Some(user) if user.revoked => Err(Error::Usage(format!("user {name:?} is revoked"))),
            Some(_) => self.derive(name),
        }
    }

    fn derive(&self, name: &str) -> Result<UserKey> {
        let secrets = self.exponents.user(&self.seed, name)?;
        Ok(UserKey::new(name, self.public(), secrets))
    }

    /// Revokes a user: decoders of models protected from now on refuse that key. Only decoders
    /// check this: the key itself still decrypts the labels.
    pub fn revoke(&mut self, name: &str) -> Result<()> {
        let user = self.book.users.iter_mut().find(|user| user.name == name);
        user.ok_or_else(|| no_user(name))?.revoked = true;
        Ok(())
    }

    pub fn models(&self) -> &[Protected] {
        &self.book.models
    }

    /// Adds a model, and replaces an earlier entry of it.
    pub fn add_model(&mut self, model: Protected) {
        self.book
            .models
            .retain(|other| other.digest != model.digest);
        self.book.models.push(model);
    }

    /// Returns the entry of the model with rows of this digest; see [`crate::Table::digest`].
    pub fn model_of(&self, digest: &[u8; 32]) -> Result<&Protected> {
        let digest = encode_string(digest);
        let found = self.book.models.iter().find(|model| model.digest == digest);
        found.ok_or_else(|| {
            Error::Usage("the authority's file knows nothing of this model: it is another authority, or an older copy of the file".into())
        })
    }

    /// Compares a service's answers to the inputs of traces, one class for each or `None` without
    /// an answer, with those of each user's key.
    pub fn trace(&self, model: &Protected, answers: &[Option<u32>]) -> Result<Verdict> {
        if answers.len() != model.traces.len() || answers.is_empty() {
            return Err(Error::Usage(format!(
                "the model has {} traces, and there are {} answers",
                model.traces.len(),
                answers.len()
            )));
        }
        let damaged = || Error::MalformedAuthority {
            reason: "a trace cannot be read".into(),
        };
        let digest = from_hex(&model.digest).ok_or_else(damaged)?;
        let digest: [u8; 32] = digest[..].try_into().map_err(|_| damaged())?;
        let rows = model
            .traces
            .iter()
            .map(|trace| trace.row(self.book.collusion).ok_or_else(damaged));
        let rows = rows.collect::<Result<Vec<Row>>>()?;
        let prepared = parallel::map(rows.len(), |i| {
            let row = rows.get(i).ok_or_else(damaged)?;
            self.exponents.prepare(&row.points).map_err(|_| damaged())
        })?;
        let users = &self.book.users;
        let matches = parallel::map(users.len(), |i| -> Result<usize> {
            let name = users.get(i).map_or("", |user| &user.name);
            let key = self.derive(name)?;
            let mut matches = 0;
            let of_rows = rows.iter().zip(&prepared);
            for ((trace, (row, prepared)), answer) in model.traces.iter().zip(of_rows).zip(answers)
            {
                let place = Place {
                    digest: &digest,
                    row: trace.row,
                    classes: model.classes,
                };
                let class = reveal(place, row, &prepared.shared(key.secrets())).class;
                matches += usize::from(*answer == Some(class));
            }
            Ok(matches)
        })?;
        let of_users = users.iter().zip(matches);
        let mut suspects: Vec<Suspect> = of_users
            .map(|(user, matches)| Suspect {
                name: user.name.clone(),
                matches,
            })
            .collect();
        suspects.sort_by(|a, b| b.matches.cmp(&a.matches).then_with(|| a.name.cmp(&b.name)));
        let (n, classes) = (suspects.len(), model.classes as usize);
        let most = suspects.first().map_or(0, |suspect| suspect.matches);
        Ok(Verdict {
            traces: answers.len(),
            threshold: threshold(n, answers.len(), classes),
            innocent: innocent(n, answers.len(), classes, most),
            suspects,
        })
    }

    pub(crate) fn exponents(&self) -> &Exponents {
        &self.exponents
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        Ok(self.signer.sign(message))
    }

    pub(crate) fn revoked_ids(&self) -> Vec<Vec<u8>> {
        let public = self.public();
        let revoked = self.book.users.iter().filter(|user| user.revoked);
        let mut ids: Vec<Vec<u8>> = revoked
            .map(|user| user_id(&public, &user.name).to_vec())
            .collect();
        ids.sort_unstable();
        ids
    }
}

impl TraceRow {
    pub(crate) fn new(c: u32, row: &Row) -> TraceRow {
        TraceRow {
            row: c,
            points: STANDARD.encode(row.points.concat()),
            pad: row.pad,
        }
    }

    fn row(&self, collusion: u32) -> Option<Row> {
        let bytes = STANDARD.decode(&self.points).ok()?;
        let (points, rest) = bytes.as_chunks::<POINT_BYTES>();
        let is_whole = rest.is_empty() && points.len() == collusion as usize + 1;
        is_whole.then(|| Row {
            points: points.to_vec(),
            pad: self.pad,
            weight: 0,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Authority {
            seed: _,
            exponents: _,
            signer: _,
            book,
        } = self;
        f.debug_struct("Authority")
            .field("users", &book.users.len())
            .finish_non_exhaustive()
    }
}

pub(crate) fn random_seed() -> Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|_| onnxseal_crypto::Error::Backend)?;
    Ok(seed)
}

fn no_user(name: &str) -> Error {
    Error::Usage(format!(
        "the authority has no user {:?}",
        onnxseal_onnx::excerpt(name)
    ))
}
