//! Keys as callers give them: recipients, identities, passphrases, and whose signature is demanded.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onnxseal_core::{
    self as core, AllowedSigners, COMMAND_PATIENCE, Edition, KeyError, NoPrompt, Progress, Prompt,
    Recipients, TierRecipients, redact,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString};
use zeroize::Zeroizing;

use crate::environment::{IDENTITY_VARIABLE, file_named_by_environment};
use crate::errors::{Fault, Result, io, usage};
use crate::reads::NamesFiles;

/// A passphrase that protects or opens a model, or opens an encrypted key file.
#[pyclass(frozen, module = "onnxseal")]
pub struct Passphrase(Arc<Zeroizing<String>>);

#[pymethods]
impl Passphrase {
    #[new]
    fn new(text: &str) -> Result<Passphrase> {
        core::Passphrase::new(text, "Passphrase")?;
        Ok(Passphrase(Arc::new(Zeroizing::new(text.to_owned()))))
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
        let passphrase = passphrase.map(|passphrase| Arc::clone(&passphrase.0));
        let text = py.detach(|| self.file_text(passphrase.as_deref().map(|text| text.as_str())))?;
        Ok(PyString::new(py, &text).unbind())
    }

    /// Writes an identity file, readable by its owner alone; never over an existing file.
    #[pyo3(signature = (path, passphrase = None))]
    fn save(&self, py: Python<'_>, path: PathBuf, passphrase: Option<&Passphrase>) -> Result<()> {
        let passphrase = passphrase.map(|passphrase| Arc::clone(&passphrase.0));
        py.detach(|| {
            let text = self.file_text(passphrase.as_deref().map(|text| text.as_str()))?;
            write_identity(&text, &path)
        })
    }

    fn __repr__(&self) -> String {
        format!("Identity({})", self.0.recipient())
    }
}

impl Identity {
    fn file_text(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>> {
        match passphrase {
            None => Ok(self.0.to_file_text()),
            Some(passphrase) => {
                let passphrase = core::Passphrase::new(passphrase, "Passphrase")?;
                Ok(self.0.to_encrypted_file_text(&passphrase)?.into())
            }
        }
    }
}

/// Writes a secret to a new file, readable by its owner alone.
pub fn write_identity(text: &str, path: &Path) -> Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => usage(format!(
            "{} exists already; a key is never overwritten",
            path.display()
        )),
        _ => io("write", path)(error),
    })?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half an identity opens nothing.
        let _ = std::fs::remove_file(path);
        io("write", path)(error)
    })
}

/// The recipients of a model, or of each of its tiers.
pub enum AudienceArgs {
    All(RecipientArgs),
    /// Recipients by the name of their tier.
    Tiers(Vec<(String, RecipientArgs)>),
}

impl AudienceArgs {
    /// Reads the recipients. Refuses an empty list, which would lock everybody out.
    pub fn read(self) -> Result<TierRecipients> {
        self.read_each(RecipientArgs::read)
    }

    /// Reads the recipients, with a comment for the model, and a list of their public keys in it if
    /// `is_listed`. Everybody can read both.
    pub fn read_with(self, comment: Option<&str>, is_listed: bool) -> Result<TierRecipients> {
        self.read_each(|recipients| recipients.read_with(comment, is_listed))
    }

    fn read_each(
        self,
        read: impl Fn(RecipientArgs) -> Result<Recipients>,
    ) -> Result<TierRecipients> {
        match self {
            AudienceArgs::All(recipients) => Ok(vec![(None, read(recipients)?)]),
            AudienceArgs::Tiers(tiers) if tiers.is_empty() => Err(no_recipient()),
            AudienceArgs::Tiers(tiers) => {
                let tiers = tiers.into_iter();
                let tiers = tiers.map(|(tier, recipients)| Ok((Some(tier), read(recipients)?)));
                tiers.collect()
            }
        }
    }
}

impl NamesFiles for AudienceArgs {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        let mut add = |RecipientArgs(args): &RecipientArgs| {
            files.extend(args.iter().filter_map(|arg| match arg {
                RecipientArg::File(path) => Some(path.clone()),
                _ => None,
            }));
        };
        match self {
            AudienceArgs::All(recipients) => add(recipients),
            AudienceArgs::Tiers(tiers) => tiers.iter().for_each(|(_, recipients)| add(recipients)),
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for AudienceArgs {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<AudienceArgs> {
        match value.cast::<PyMapping>() {
            Ok(tiers) => {
                let tiers = tiers.items()?.into_iter();
                let tiers = tiers.map(|tier| tier.extract());
                Ok(AudienceArgs::Tiers(tiers.collect::<PyResult<_>>()?))
            }
            Err(_) => Ok(AudienceArgs::All(value.extract()?)),
        }
    }
}

pub fn no_recipient() -> Fault {
    usage(
        "no recipient, so nobody could open the result: generate_identity() makes an identity, which has one",
    )
}

/// Recipients: one or several of these.
pub struct RecipientArgs(Vec<RecipientArg>);

enum RecipientArg {
    /// `age1...`, `ssh-ed25519 ...`
    Text(String),
    /// A file with recipients.
    File(PathBuf),
    Passphrase(Arc<Zeroizing<String>>),
}

impl RecipientArgs {
    fn read(self) -> Result<Recipients> {
        let mut all: Option<Recipients> = None;
        for arg in self.0 {
            let found = match arg {
                RecipientArg::Text(text) => Recipients::parse(&[text])?,
                RecipientArg::File(path) => {
                    let (file, name) = open(&path)?;
                    Recipients::read(file, &name)?
                }
                RecipientArg::Passphrase(text) => {
                    Recipients::passphrase(&core::Passphrase::new(&text, "Passphrase")?)
                }
            };
            match &mut all {
                Some(all) => all.merge(found)?,
                None => all = Some(found),
            }
        }
        all.ok_or_else(no_recipient)
    }

    fn read_with(self, comment: Option<&str>, is_listed: bool) -> Result<Recipients> {
        let mut recipients = self.read()?;
        if let Some(comment) = comment {
            if core::holds_secret(comment) {
                return Err(usage(
                    "comment holds a secret key, and everybody can read it",
                ));
            }
            recipients = recipients.with_comment(comment)?;
        }
        if is_listed {
            Ok(recipients.listed()?)
        } else {
            Ok(recipients)
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for RecipientArgs {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<RecipientArgs> {
        one_or_several(&value, |value| {
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
                not_one_of(value, "a recipient is a string (age1..., ssh-ed25519 ...), the pathlib.Path of a file with recipients, an Identity or a Passphrase")
            })
        })
        .map(RecipientArgs)
    }
}

/// Identities, which open models: one or several of these.
pub struct IdentityArgs(Vec<IdentityArg>);

enum IdentityArg {
    Command(Py<IdentityCommand>),
    File(PathBuf),
    Text(Zeroizing<Vec<u8>>),
    Passphrase(Arc<Zeroizing<String>>),
}

/// The edition that a caller accepts: a tier by its name, or "any".
pub fn edition(tier: Option<&str>) -> Edition<'_> {
    tier.map_or(Edition::Whole, Edition::named)
}

/// The edition that a check with `identities` accepts. Fails if a tier is named that none opens.
pub fn edition_for<'a>(
    tier: Option<&'a str>,
    identities: Option<&core::Identities>,
) -> Result<Edition<'a>> {
    if tier.is_some() && identities.is_none() {
        return Err(usage(
            "only an identity shows which tier it opens: give one with identity=...",
        ));
    }
    Ok(edition(tier))
}

/// Reads identities, without `args` those that the environment names; `None` if it names none. A
/// command ends when `progress` says that the call is cancelled.
pub fn read_identities(
    args: Option<IdentityArgs>,
    progress: &dyn Progress,
) -> Result<Option<core::Identities>> {
    let Some(IdentityArgs(args)) = args else {
        return read_named_by_environment();
    };
    // A passphrase opens a model, and key files too.
    let passphrases = args.iter().filter_map(|arg| match arg {
        IdentityArg::Passphrase(text) => Some(Arc::clone(text)),
        _ => None,
    });
    let prompt: Arc<dyn Prompt> = match passphrases.into_iter().next() {
        Some(text) => Arc::new(Answer(text)),
        None => Arc::new(NoPrompt),
    };
    let mut all = core::Identities::default();
    for arg in args {
        let prompt = Arc::clone(&prompt);
        all.merge(match arg {
            IdentityArg::Command(one) => {
                let IdentityCommand { command, patience } = one.get();
                command.identities(*patience, prompt, &|| progress.is_cancelled())?
            }
            IdentityArg::File(path) => {
                let (file, name) = open(&path)?;
                core::Identities::read_with(file, &name, prompt)?
            }
            IdentityArg::Text(text) => core::Identities::read_with(&**text, "identity", prompt)?,
            IdentityArg::Passphrase(text) => {
                core::Identities::passphrase(core::Passphrase::new(&text, "Passphrase")?)
            }
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

fn read_named_by_environment() -> Result<Option<core::Identities>> {
    let Some(value) = std::env::var_os(IDENTITY_VARIABLE) else {
        return Ok(None);
    };
    if value.is_empty() {
        // As in CI, where a secret is missing: a check without the key would pass for one with it.
        return Err(usage(format!(
            "{IDENTITY_VARIABLE} is empty: name an identity file, or unset it"
        )));
    }
    let Some(path) = file_named_by_environment() else {
        let value = value.to_string_lossy();
        return Err(usage(format!(
            "{IDENTITY_VARIABLE}: {value} names no descriptor"
        )));
    };
    // A descriptor is opened anew, not taken over: it stays the caller's.
    let (file, name) = open(&path)?;
    Ok(Some(core::Identities::read(file, &name)?))
}

impl NamesFiles for IdentityArgs {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        for arg in &self.0 {
            match arg {
                IdentityArg::File(path) => files.push(path.clone()),
                IdentityArg::Command(one) => files.extend(one.get().command.files()),
                IdentityArg::Text(_) | IdentityArg::Passphrase(_) => {}
            }
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for IdentityArgs {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<IdentityArgs> {
        one_or_several(&value, |value| {
            if let Ok(bytes) = value.cast::<PyBytes>() {
                return Ok(IdentityArg::Text(bytes.as_bytes().to_vec().into()));
            }
            if let Ok(passphrase) = value.cast::<Passphrase>() {
                return Ok(IdentityArg::Passphrase(Arc::clone(&passphrase.get().0)));
            }
            if let Ok(command) = value.cast::<IdentityCommand>() {
                return Ok(IdentityArg::Command(command.clone().unbind()));
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
                not_one_of(value, "an identity is the path of an identity file, the text of one, an Identity, an IdentityCommand or a Passphrase")
            })
        })
        .map(IdentityArgs)
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

/// Answers each prompt for a passphrase with this one.
struct Answer(Arc<Zeroizing<String>>);

impl Prompt for Answer {
    fn passphrase(&self, _: &str) -> Option<core::Passphrase> {
        core::Passphrase::new(&self.0, "Passphrase").ok()
    }
}

/// Whose signature a model must bear: the path of an `allowed_signers` file, and possibly the
/// signer in it who must have signed.
pub struct SignedByArgs {
    path: PathBuf,
    signer: Option<String>,
}

impl SignedByArgs {
    /// Makes the arguments of `allowed_signers` and `signer`, if a signature is demanded.
    pub fn new(path: Option<PathBuf>, signer: Option<String>) -> Result<Option<SignedByArgs>> {
        match (path, signer) {
            (None, Some(_)) => Err(usage(
                "signer names a signer of the file allowed_signers: give that too",
            )),
            (path, signer) => Ok(path.map(|path| SignedByArgs { path, signer })),
        }
    }

    /// Reads the file.
    pub fn read(self) -> Result<core::SignedBy> {
        let (file, name) = open(&self.path)?;
        let allowed = AllowedSigners::read(file, &name)?;
        let signer = self.signer;
        Ok(core::SignedBy { allowed, signer })
    }
}

impl NamesFiles for SignedByArgs {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        files.push(self.path.clone());
    }
}

/// The publisher's key: the path of an OpenSSH private key, and the passphrase that it may need.
pub struct SigningKeyArg {
    path: PathBuf,
    passphrase: Option<Arc<Zeroizing<String>>>,
}

impl SigningKeyArg {
    /// Makes the argument of `path` and `passphrase`, if there is a path.
    pub fn new(path: Option<PathBuf>, passphrase: Option<&Passphrase>) -> Option<SigningKeyArg> {
        let passphrase = passphrase.map(|passphrase| Arc::clone(&passphrase.0));
        path.map(|path| SigningKeyArg { path, passphrase })
    }

    /// Reads the file.
    pub fn read(self) -> Result<core::SigningKey> {
        let (file, name) = open(&self.path)?;
        let passphrase = || match &self.passphrase {
            Some(text) => core::Passphrase::new(text, "Passphrase"),
            None => Err(KeyError::PassphraseNeeded(name.clone())),
        };
        Ok(core::SigningKey::read(file, &name, passphrase)?)
    }
}

impl NamesFiles for SigningKeyArg {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        files.push(self.path.clone());
    }
}

fn open(path: &Path) -> Result<(impl Read + use<>, String)> {
    let file = File::open(path).map_err(io("open", path))?;
    Ok((file, path.display().to_string()))
}

/// Reads one value that `read` takes, or each of a list, a tuple or another iterable.
pub fn one_or_several<'py, T>(
    value: &Bound<'py, PyAny>,
    read: impl Fn(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    match read(value) {
        Ok(one) => Ok(vec![one]),
        Err(error) => match value.try_iter() {
            Ok(several) => several.map(|value| read(&value?)).collect(),
            Err(_) => Err(error),
        },
    }
}

/// The error for a value of a wrong type. It names only the type: the value may be a secret.
fn not_one_of(value: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    let name = value.get_type().name();
    let name = name.map_or_else(|_| "?".into(), |name| name.to_string());
    PyTypeError::new_err(format!("{expected}, not {name}"))
}
