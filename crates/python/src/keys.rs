//! Keys as callers give them: recipients, identities, passphrases, and whose signature is demanded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use onnxseal_core::{
    self as core, Access, AllowedSigners, COMMAND_PATIENCE, Edition, IDENTITY_VARIABLE, KeyError,
    Licence, NoPrompt, Progress, Prompt, RecipientNotes, Recipients, TierRecipients,
    identity_of_environment, join_recipients, licence_of_environment, open_named, read_licence,
    redact,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString};
use zeroize::Zeroizing;

use crate::errors::{Fault, Result, usage};
use crate::keywords::{Keywords, Later, NamesFiles, OneOrMore};

/// A passphrase that protects or opens a model, or opens an encrypted key file.
#[pyclass(frozen, module = "onnxseal")]
pub struct Passphrase(Arc<core::Passphrase>);

#[pymethods]
impl Passphrase {
    #[new]
    fn new(text: &str) -> Result<Passphrase> {
        let passphrase = core::Passphrase::new(text, "Passphrase")?;
        Ok(Passphrase(Arc::new(passphrase)))
    }

    fn __repr__(&self) -> &'static str {
        "Passphrase(..)"
    }
}

/// A secret key that opens models protected to its recipient.
#[pyclass(frozen, module = "onnxseal")]
pub struct Identity(core::Identity);

/// A program that prints an identity file, such as the client of a secret store. It is given where
/// an identity is, and runs whenever a call opens something with it.
///
/// `command` is a list of the program and its arguments, or a string that is split into words as a
/// POSIX shell splits them. The program runs without a shell and without standard input. It is
/// killed if it takes more than `seconds`.
#[pyclass(frozen, module = "onnxseal")]
pub struct IdentityCommand {
    command: core::IdentityCommand,
    patience: Duration,
}

#[pymethods]
impl IdentityCommand {
    #[new]
    #[pyo3(signature = (command, *, seconds = COMMAND_PATIENCE.as_secs_f64()))]
    fn new(command: &Bound<'_, PyAny>, seconds: f64) -> Result<IdentityCommand> {
        let command = if let Ok(line) = command.extract::<String>() {
            core::IdentityCommand::parse(&line)?
        } else if let Ok(words) = command.extract::<Vec<PathBuf>>() {
            core::IdentityCommand::new(words.into_iter().map(PathBuf::into_os_string))?
        } else {
            return Err(not_one_of(command, "a command is a list of words, or a string").into());
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(patience) if (1.0..=86_400.0).contains(&seconds) => {
                Ok(IdentityCommand { command, patience })
            }
            _ => Err(usage("seconds is a number from 1 to 86400")),
        }
    }

    fn __repr__(&self) -> String {
        // Somebody may have given a key instead of a program.
        let program = redact(&self.command.program().to_string_lossy());
        format!("IdentityCommand({program:?}, ..)")
    }
}

/// Makes a new identity, as `onnxseal keygen` and `age-keygen` do; with `pq`, a post-quantum one.
#[pyfunction]
#[pyo3(signature = (*, pq = false))]
pub fn generate_identity(pq: bool) -> Result<Identity> {
    if pq {
        return Ok(Identity(core::generate_pq_identity()?));
    }
    Ok(Identity(core::generate_identity()))
}

#[pymethods]
impl Identity {
    /// The public key, `age1...` or `age1pq1...`: others need it to protect a model to this identity.
    #[getter]
    fn recipient(&self) -> String {
        self.0.recipient()
    }

    /// The text of an identity file, which is secret; encrypted if there is a passphrase.
    #[pyo3(signature = (passphrase = None))]
    fn text(&self, py: Python<'_>, passphrase: Option<&Passphrase>) -> Result<Py<PyString>> {
        let passphrase = passphrase.map(|passphrase| &*passphrase.0);
        let text = py.detach(|| self.file_text(passphrase))?;
        Ok(PyString::new(py, &text).unbind())
    }

    /// Writes an identity file, readable by its owner alone; never over an existing file.
    #[pyo3(signature = (path, passphrase = None))]
    fn save(&self, py: Python<'_>, path: PathBuf, passphrase: Option<&Passphrase>) -> Result<()> {
        let passphrase = passphrase.map(|passphrase| &*passphrase.0);
        py.detach(|| Ok(core::write_key(&path, &self.file_text(passphrase)?)?))
    }

    fn __repr__(&self) -> String {
        format!("Identity({})", self.0.recipient())
    }
}

impl Identity {
    fn file_text(&self, passphrase: Option<&core::Passphrase>) -> Result<Zeroizing<String>> {
        Ok(match passphrase {
            None => self.0.to_file_text(),
            Some(passphrase) => self.0.to_encrypted_file_text(passphrase)?.into(),
        })
    }
}

/// The recipients of a model, or of each of its tiers, by the tier's name.
pub struct AudienceArgs(Vec<(Option<String>, OneOrMore<RecipientArg>)>);

impl AudienceArgs {
    /// Reads the recipients. Refuses an empty list, which would lock everybody out.
    pub fn read(self) -> Result<TierRecipients> {
        self.read_with(None, false)
    }

    /// Reads the recipients, with a comment for the model, and a list of their public keys in it if
    /// `is_listed`. Everybody can read both.
    pub fn read_with(self, comment: Option<&str>, is_listed: bool) -> Result<TierRecipients> {
        let notes = RecipientNotes { comment, is_listed };
        let mut found = TierRecipients::new();
        for (tier, OneOrMore(args)) in self.0 {
            let read = args.into_iter().map(RecipientArg::read);
            let read: Vec<Recipients> = read.collect::<Result<_>>()?;
            let of_tier = read.into_iter().map(|read| (tier.clone(), read));
            let (_, all) = join_recipients(of_tier)?.pop().ok_or_else(no_recipient)?;
            found.push((tier, notes.add_to(all)?));
        }
        match found.is_empty() {
            true => Err(no_recipient()),
            false => Ok(found),
        }
    }
}

impl NamesFiles for AudienceArgs {
    fn files(&self) -> Vec<PathBuf> {
        let args = self.0.iter().flat_map(|(_, OneOrMore(args))| args);
        let files = args.filter_map(|arg| match arg {
            RecipientArg::File(path) => Some(path.clone()),
            _ => None,
        });
        files.collect()
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for AudienceArgs {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<AudienceArgs> {
        let Ok(tiers) = value.cast::<PyMapping>() else {
            return Ok(AudienceArgs(vec![(None, value.extract()?)]));
        };
        let tiers = tiers.items()?.into_iter().map(|tier| {
            let (name, recipients) = tier.extract()?;
            Ok((Some(name), recipients))
        });
        tiers.collect::<PyResult<_>>().map(AudienceArgs)
    }
}

fn no_recipient() -> Fault {
    usage(
        "no recipient, so nobody could open the result: generate_identity() makes an identity, which has one",
    )
}

enum RecipientArg {
    /// `age1...`, `ssh-ed25519 ...`
    Text(String),
    /// A file with recipients.
    File(PathBuf),
    Passphrase(Arc<core::Passphrase>),
}

impl RecipientArg {
    fn read(self) -> Result<Recipients> {
        Ok(match self {
            RecipientArg::Text(text) => Recipients::parse(&[text])?,
            RecipientArg::File(path) => {
                let (file, name) = open_named(&path, "recipients")?;
                Recipients::read(file, &name)?
            }
            RecipientArg::Passphrase(passphrase) => Recipients::passphrase(&passphrase),
        })
    }
}

impl<'py> FromPyObject<'_, 'py> for RecipientArg {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<RecipientArg> {
        if let Ok(text) = value.extract::<String>() {
            return Ok(RecipientArg::Text(text));
        }
        if let Ok(passphrase) = value.cast::<Passphrase>() {
            return Ok(RecipientArg::Passphrase(Arc::clone(&passphrase.get().0)));
        }
        if let Ok(identity) = value.cast::<Identity>() {
            return Ok(RecipientArg::Text(identity.get().recipient()));
        }
        value.extract().map(RecipientArg::File).map_err(|_| {
            not_one_of(&value, "a recipient is a string (age1..., ssh-ed25519 ...), the pathlib.Path of a file with recipients, an Identity or a Passphrase")
        })
    }
}

/// Identities, which open models.
pub type IdentityArgs = OneOrMore<IdentityArg>;

pub enum IdentityArg {
    Command(Py<IdentityCommand>),
    File(PathBuf),
    Text(Zeroizing<Vec<u8>>),
    Passphrase(Arc<core::Passphrase>),
}

/// The edition that a caller accepts: a tier by its name, or "any".
pub fn edition(tier: Option<&str>) -> Edition<'_> {
    tier.map_or(Edition::Whole, Edition::named)
}

/// The keys that open a model, and the demands on it.
pub struct Opened {
    identities: core::Identities,
    signed_by: Option<core::SignedBy>,
    tier: Option<String>,
    licence: Option<Licence>,
}

impl Opened {
    pub fn access(&self) -> Access<'_> {
        Access {
            identities: &self.identities,
            signed_by: self.signed_by.as_ref(),
            edition: edition(self.tier.as_deref()),
            licence: self.licence.as_ref(),
        }
    }
}

/// Takes the arguments for opening a model. It fails later if there is no identity.
pub fn opening(keywords: &Keywords<'_>) -> Result<Later<Opened>> {
    let identity = keywords.read("identity")?;
    let (signed_by, licence) = (signed_by(keywords)?, licence(keywords)?);
    let tier = keywords.get("tier")?;
    Ok(Box::new(move |progress| {
        Ok(Opened {
            identities: require_identities(identity, progress)?,
            signed_by: signed_by(progress)?,
            tier,
            licence: licence(progress)?,
        })
    }))
}

/// Reads identities, without `args` those that the environment names; `None` if it names none. A
/// command ends when `progress` says that the call is cancelled.
pub fn read_identities(
    args: Option<IdentityArgs>,
    progress: &dyn Progress,
) -> Result<Option<core::Identities>> {
    let Some(OneOrMore(args)) = args else {
        // A descriptor is opened anew, not taken over: it stays the caller's.
        let named = identity_of_environment()?.map(|path| {
            let (file, name) = open_named(&path, IDENTITY_VARIABLE)?;
            Ok::<_, Fault>(core::Identities::read(file, &name)?)
        });
        return named.transpose();
    };
    // A passphrase opens a model, and key files too.
    let prompt = args.iter().find_map(|arg| match arg {
        IdentityArg::Passphrase(passphrase) => Some(Arc::clone(passphrase) as Arc<dyn Prompt>),
        _ => None,
    });
    let prompt = prompt.unwrap_or_else(|| Arc::new(NoPrompt));
    let mut all = core::Identities::default();
    for arg in args {
        let prompt = Arc::clone(&prompt);
        all.merge(match arg {
            IdentityArg::Command(one) => {
                let IdentityCommand { command, patience } = one.get();
                command.identities(*patience, prompt, &|| progress.is_cancelled())?
            }
            IdentityArg::File(path) => {
                let (file, name) = open_named(&path, "identity")?;
                core::Identities::read_with(file, &name, prompt)?
            }
            IdentityArg::Text(text) => core::Identities::read_with(&**text, "identity", prompt)?,
            IdentityArg::Passphrase(passphrase) => core::Identities::passphrase(&passphrase),
        });
    }
    Ok(Some(all))
}

/// Reads identities as [`read_identities`] does, and fails if there are none.
pub fn require_identities(
    args: Option<IdentityArgs>,
    progress: &dyn Progress,
) -> Result<core::Identities> {
    let message = "no identity: give one with identity=..., or name its file in ONNXSEAL_IDENTITY";
    read_identities(args, progress)?.ok_or_else(|| usage(message))
}

impl NamesFiles for IdentityArg {
    fn files(&self) -> Vec<PathBuf> {
        match self {
            IdentityArg::File(path) => vec![path.clone()],
            IdentityArg::Command(one) => one.get().command.files(),
            IdentityArg::Text(_) | IdentityArg::Passphrase(_) => Vec::new(),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for IdentityArg {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<IdentityArg> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(IdentityArg::Text(bytes.as_bytes().to_vec().into()));
        }
        if let Ok(passphrase) = value.cast::<Passphrase>() {
            return Ok(IdentityArg::Passphrase(Arc::clone(&passphrase.get().0)));
        }
        if let Ok(command) = value.cast::<IdentityCommand>() {
            return Ok(IdentityArg::Command(command.to_owned().unbind()));
        }
        if let Ok(identity) = value.cast::<Identity>() {
            let text = identity.get().0.to_file_text();
            return Ok(IdentityArg::Text(text.as_bytes().to_vec().into()));
        }
        // A secret must not be taken for a path, which messages show.
        if let Ok(text) = value.extract::<String>().map(Zeroizing::new)
            && is_secret(&text)
        {
            return Ok(IdentityArg::Text(text.as_bytes().to_vec().into()));
        }
        value.extract().map(IdentityArg::File).map_err(|_| {
            not_one_of(&value, "an identity is the path of an identity file, the text of one, an Identity, an IdentityCommand or a Passphrase")
        })
    }
}

/// Whether `text` is the text of an identity file or of a private key, and not a path.
#[pyfunction]
#[pyo3(name = "_is_secret")]
pub fn is_secret(text: &str) -> bool {
    let text = Zeroizing::new(text.to_ascii_uppercase());
    ["AGE-SECRET-KEY-", "AGE-PLUGIN-", "-----BEGIN "]
        .iter()
        .any(|mark| text.contains(mark))
}

/// Takes the arguments that say whose signature a model must bear.
pub fn signed_by(keywords: &Keywords<'_>) -> Result<Later<Option<core::SignedBy>>> {
    let path: Option<PathBuf> = keywords.read("allowed_signers")?;
    let signer: Option<String> = keywords.get("signer")?;
    if path.is_none() && signer.is_some() {
        return Err(usage(
            "signer names a signer of the file allowed_signers: give that too",
        ));
    }
    Ok(Box::new(move |_| {
        let Some(path) = path else { return Ok(None) };
        let (file, name) = open_named(&path, "allowed_signers")?;
        let allowed = AllowedSigners::read(file, &name)?;
        Ok(Some(core::SignedBy { allowed, signer }))
    }))
}

/// Takes the argument for a licence: the path of its file. Without it, the environment may name one.
pub fn licence(keywords: &Keywords<'_>) -> Result<Later<Option<Licence>>> {
    let path: Option<PathBuf> = keywords.read("licence")?;
    Ok(Box::new(move |_| match path {
        Some(path) => Ok(Some(read_licence(&path, "licence")?)),
        None => Ok(licence_of_environment()?),
    }))
}

/// Takes the arguments for the publisher's key: the path of an OpenSSH private key, and the passphrase that it
/// may need.
pub fn signing_key(keywords: &Keywords<'_>) -> Result<Later<Option<core::SigningKey>>> {
    let path: Option<PathBuf> = keywords.read("sign_key")?;
    let given: Option<Py<Passphrase>> = keywords.get("sign_key_passphrase")?;
    Ok(Box::new(move |_| {
        let Some(path) = path else { return Ok(None) };
        let (file, name) = open_named(&path, "sign_key")?;
        let passphrase = || {
            let given = given
                .as_ref()
                .and_then(|given| given.get().0.passphrase(&name));
            given.ok_or_else(|| KeyError::PassphraseNeeded(name.clone()))
        };
        Ok(Some(core::SigningKey::read(file, &name, passphrase)?))
    }))
}

/// The error for a value of a wrong type. It names only the type: the value may be a secret.
fn not_one_of(value: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    let name = value.get_type().name();
    let name = name.map_or_else(|_| "?".into(), |name| name.to_string());
    PyTypeError::new_err(format!("{expected}, not {name}"))
}
