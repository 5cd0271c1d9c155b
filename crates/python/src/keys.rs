//! Keys as callers give them: recipients, identities, passphrases, and whose signature is demanded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use onnxseal_core::{
    self as core, Access, AllowedSigners, COMMAND_PATIENCE, Edition, IDENTITY_VARIABLE, KeyError,
    NoPrompt, Progress, Prompt, RecipientNotes, Recipients, TierRecipients,
    identity_of_environment, join_recipients, open_named, redact,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString};
use zeroize::Zeroizing;

use crate::errors::{Fault, Result, usage};
use crate::reads::NamesFiles;

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
pub struct AudienceArgs(Vec<(Option<String>, RecipientArgs)>);

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
        for (tier, RecipientArgs(args)) in self.0 {
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
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        let args = self.0.iter().flat_map(|(_, RecipientArgs(args))| args);
        files.extend(args.filter_map(|arg| match arg {
            RecipientArg::File(path) => Some(path.clone()),
            _ => None,
        }));
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
    Passphrase(Arc<core::Passphrase>),
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

/// The arguments for opening a model: identities, a demanded signature, and the accepted tier.
pub struct OpeningArgs(Option<IdentityArgs>, Option<SignedByArgs>, Option<String>);

/// Those of [`OpeningArgs`], read from files.
pub struct Opened(core::Identities, Option<core::SignedBy>, Option<String>);

impl OpeningArgs {
    pub fn new(
        identity: Option<IdentityArgs>,
        signed_by: Option<SignedByArgs>,
        tier: Option<String>,
    ) -> OpeningArgs {
        OpeningArgs(identity, signed_by, tier)
    }

    /// Reads all of it, and fails if there is no identity.
    pub fn read(self, progress: &dyn Progress) -> Result<Opened> {
        let OpeningArgs(identity, signed_by, tier) = self;
        let identities = require_identities(identity, progress)?;
        let signed_by = signed_by.map(SignedByArgs::read).transpose()?;
        Ok(Opened(identities, signed_by, tier))
    }
}

impl Opened {
    pub fn access(&self) -> Access<'_> {
        let Opened(identities, signed_by, tier) = self;
        Access {
            identities,
            signed_by: signed_by.as_ref(),
            edition: edition(tier.as_deref()),
        }
    }
}

impl NamesFiles for OpeningArgs {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        self.0.add_to(files);
        self.1.add_to(files);
    }
}

/// Reads identities, without `args` those that the environment names; `None` if it names none. A
/// command ends when `progress` says that the call is cancelled.
pub fn read_identities(
    args: Option<IdentityArgs>,
    progress: &dyn Progress,
) -> Result<Option<core::Identities>> {
    let Some(IdentityArgs(args)) = args else {
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
        let (file, name) = open_named(&self.path, "allowed_signers")?;
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
    passphrase: Option<Arc<core::Passphrase>>,
}

impl SigningKeyArg {
    /// Makes the argument of `path` and `passphrase`, if there is a path.
    pub fn new(path: Option<PathBuf>, passphrase: Option<&Passphrase>) -> Option<SigningKeyArg> {
        let passphrase = passphrase.map(|passphrase| Arc::clone(&passphrase.0));
        path.map(|path| SigningKeyArg { path, passphrase })
    }

    /// Reads the file.
    pub fn read(self) -> Result<core::SigningKey> {
        let (file, name) = open_named(&self.path, "sign_key")?;
        let passphrase = || {
            let given = self.passphrase.as_ref();
            let given = given.and_then(|given| given.passphrase(&name));
            given.ok_or_else(|| KeyError::PassphraseNeeded(name.clone()))
        };
        Ok(core::SigningKey::read(file, &name, passphrase)?)
    }
}

impl NamesFiles for SigningKeyArg {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        files.push(self.path.clone());
    }
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
