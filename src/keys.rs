//! Reads recipients, identities and passphrases from arguments, files, descriptors and the
//! terminal.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use onnxseal_core::{
    COMMAND_PATIENCE, Error, Identities, IdentityCommand, KeyError, Passphrase, Recipients,
    TierRecipients, holds_secret, join_recipients, open_handed_over,
};

use crate::exit::{Usage, stopped};
use crate::prompt::{Terminal, ask_passphrase, program_patience};
use crate::stop::Stop;
use crate::text::{note, one_line};

/// The variable that names an identity file, or a descriptor as `fd:N`, for commands without
/// --identity.
pub const IDENTITY_VARIABLE: &str = "ONNXSEAL_IDENTITY";

/// The recipients of a model.
#[derive(Debug, Args)]
pub struct RecipientArgs {
    #[command(flatten)]
    pub keys: RecipientKeys,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

/// The recipients of a result, for commands that also open a model, perhaps with another
/// passphrase.
#[derive(Debug, Args)]
pub struct NewRecipientArgs {
    #[command(flatten)]
    pub keys: RecipientKeys,
    #[command(flatten)]
    pub passphrase: NewPassphraseArgs,
}

/// Public keys.
#[derive(Debug, Args)]
pub struct RecipientKeys {
    /// Who can open the model: an age recipient (age1...) or an ssh public key; may be given
    /// several times. With tiers: TIER=RECIPIENT
    #[arg(short, long = "recipient", value_name = "RECIPIENT")]
    pub recipients: Vec<String>,

    /// File with one recipient per line, - for standard input; may be given several times. With
    /// tiers: TIER=FILE
    #[arg(short = 'R', long = "recipients-file", value_name = "FILE")]
    pub recipients_files: Vec<PathBuf>,

    /// Comment in the model, such as who has the keys. Anyone can read it (`inspect`), and no
    /// signature covers it
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,

    /// List the recipients' public keys in the model. Anyone can read them (`inspect`), and `rekey
    /// --add` can keep these recipients without their identities
    #[arg(long)]
    pub list_recipients: bool,
}

/// Opens the input key in a file. An encrypted key needs an identity.
#[cfg(feature = "inputs")]
pub fn input_key(
    path: &Path,
    what: &str,
    identities: &IdentityArgs,
    quiet: bool,
) -> Result<onnxseal_inputs::InputKey> {
    let read = onnxseal_inputs::InputKey::read;
    secret_file((path, what), identities, quiet, read)
}

/// Opens the label key in a file. An encrypted key needs an identity.
#[cfg(feature = "labels")]
pub fn label_key(
    path: &Path,
    what: &str,
    identities: &IdentityArgs,
    quiet: bool,
) -> Result<onnxseal_labels::UserKey> {
    let read = onnxseal_labels::UserKey::read;
    secret_file((path, what), identities, quiet, read)
}

/// Opens the label authority in a file. An encrypted one needs an identity.
#[cfg(feature = "labels")]
pub fn label_authority(
    path: &Path,
    what: &str,
    identities: &IdentityArgs,
    quiet: bool,
) -> Result<onnxseal_labels::Authority> {
    let read = onnxseal_labels::Authority::read;
    secret_file((path, what), identities, quiet, read)
}

/// Opens a secret file, and decrypts it with identities if necessary.
#[cfg(any(feature = "inputs", feature = "labels"))]
fn secret_file<T, E: std::error::Error + Send + Sync + 'static>(
    (path, what): (&Path, &str),
    identities: &IdentityArgs,
    quiet: bool,
    read: impl FnOnce(Box<dyn Read>, &Path, Option<&Identities>) -> std::result::Result<T, E>,
) -> Result<T> {
    let (file, name) = open_secret(path, what, quiet)?;
    let identities = identities.read(quiet)?;
    read(file, Path::new(&name), identities.as_ref()).with_context(|| format!("cannot use {name}"))
}

/// The identities that open a model.
#[derive(Debug, Default, Args)]
pub struct IdentityArgs {
    /// Identity file or ssh private key, - for standard input; may be given several times. Default:
    /// the file or descriptor (fd:N) that ONNXSEAL_IDENTITY names
    #[arg(short, long = "identity", value_name = "FILE")]
    pub identities: Vec<PathBuf>,

    /// Program that prints an identity file, and its arguments, such as a secret store's client; may
    /// be given several times. It runs without a shell
    #[arg(long = "identity-command", value_name = "COMMAND")]
    pub identity_commands: Vec<String>,

    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

/// The source of a passphrase, which itself never appears on the command line.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub struct PassphraseArgs {
    /// Use a passphrase, asked for on the terminal
    #[arg(long)]
    pub passphrase: bool,

    /// Use the passphrase on the first line of a file, - for standard input
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// Use the passphrase on the first line read from descriptor N
    #[arg(long, value_name = "N")]
    pub passphrase_fd: Option<u32>,
}

/// The passphrase of new recipients.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct NewPassphraseArgs {
    /// Wrap to a passphrase, asked for on the terminal
    #[arg(long)]
    pub new_passphrase: bool,

    /// Wrap to the passphrase on the first line of a file, - for standard input
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,

    /// Wrap to the passphrase on the first line read from descriptor N
    #[arg(long, value_name = "N")]
    pub new_passphrase_fd: Option<u32>,
}

/// The source of a passphrase.
enum Source<'a> {
    Terminal,
    File(&'a Path),
    Descriptor(u32),
}

impl RecipientArgs {
    /// Reads the recipients, and fails if there are none.
    pub fn require(&self, quiet: bool) -> Result<TierRecipients> {
        (self.keys).require(self.passphrase.source(), "--passphrase", quiet)
    }

    /// Reads the recipients, if there are any.
    pub fn read(&self, quiet: bool) -> Result<TierRecipients> {
        self.keys.read(self.passphrase.source(), quiet)
    }

    /// Reads the recipients of `what`, which has no tiers, if there are any.
    pub fn read_untiered(&self, what: &str, quiet: bool) -> Result<Option<Recipients>> {
        let mut found = self.read(quiet)?;
        if found.iter().any(|(tier, _)| tier.is_some()) {
            return Err(Usage(format!("{what} has no tiers: leave out TIER=")).into());
        }
        Ok(found.pop().map(|(_, recipients)| recipients))
    }

    /// Makes the recipients from a new identity's recipient, if the user gave none.
    pub fn of_new_identity(&self, recipient: &str) -> Result<TierRecipients> {
        let recipients = Recipients::parse(&[recipient]).map_err(Error::Key)?;
        Ok(vec![(None, self.keys.with_notes(recipients)?)])
    }
}

impl NewRecipientArgs {
    /// Reads the recipients, and fails if there are none, which would lock everybody out.
    pub fn require(&self, quiet: bool) -> Result<TierRecipients> {
        (self.keys).require(self.passphrase.source(), "--new-passphrase", quiet)
    }
}

impl RecipientKeys {
    fn require(&self, passphrase: Option<Source>, or: &str, quiet: bool) -> Result<TierRecipients> {
        match self.read(passphrase, quiet)? {
            found if found.is_empty() => Err(Usage(format!(
                "no recipient, so nobody could open the result: name one with --recipient, --recipients-file or {or}"
            ))
            .into()),
            found => Ok(found),
        }
    }

    fn read(&self, passphrase: Option<Source>, quiet: bool) -> Result<TierRecipients> {
        let mut found = Vec::new();
        for text in &self.recipients {
            let (tier, text) = tier_of(text);
            let recipient = Recipients::parse(&[text]).map_err(|error| no_recipient(text, error));
            found.push((tier.map(str::to_owned), recipient?));
        }
        for path in &self.recipients_files {
            let (tier, path) = tier_of_file(path);
            let (file, name) = open(path, "--recipients-file")?;
            let recipients = Recipients::read(file, &name).map_err(Error::Key)?;
            found.push((tier.map(str::to_owned), recipients));
        }
        if let Some(source) = passphrase {
            let passphrase = source.new_passphrase(quiet)?;
            found.push((None, Recipients::passphrase(&passphrase)));
        }
        let all = join_recipients(found)?.into_iter();
        all.map(|(tier, all)| Ok((tier, self.with_notes(all)?)))
            .collect()
    }

    fn with_notes(&self, recipients: Recipients) -> Result<Recipients> {
        let mut recipients = recipients.with_prompt(Arc::new(Terminal));
        if let Some(comment) = &self.comment {
            if holds_secret(comment) {
                return Err(Usage(
                    "--comment holds a secret key, but anyone can read a comment".into(),
                )
                .into());
            }
            recipients = recipients.with_comment(comment).map_err(Error::Key)?;
        }
        if self.list_recipients {
            recipients = recipients.listed().map_err(Error::Key)?;
        }
        Ok(recipients)
    }
}

/// Makes the error for an unusable recipient, which may be the name of a file.
fn no_recipient(text: &str, error: KeyError) -> anyhow::Error {
    let is_file = !holds_secret(text) && Path::new(text).is_file();
    match (&error, is_file) {
        (KeyError::InvalidRecipient { .. }, true) => Usage(format!(
            "{text} is a file, and --recipient takes a recipient itself: give the file with -R {text}"
        ))
        .into(),
        _ => Error::Key(error).into(),
    }
}

/// Splits `TIER=RECIPIENT`. A recipient never has an equals sign after only the few plain
/// characters of a tier's name.
fn tier_of(text: &str) -> (Option<&str>, &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match text.split_once('=') {
        Some((tier, rest)) if !tier.is_empty() && tier.chars().all(is_plain) => (Some(tier), rest),
        _ => (None, text),
    }
}

/// Splits `TIER=FILE`, unless a file has exactly this name.
pub fn tier_of_file(path: &Path) -> (Option<&str>, &Path) {
    match path.to_str() {
        Some(text) if !path.exists() => {
            let (tier, rest) = tier_of(text);
            (tier, Path::new(rest))
        }
        _ => (None, path),
    }
}

impl IdentityArgs {
    /// Reads the identities, or the one that the environment names, or returns `None` if there are
    /// none.
    pub fn read(&self, quiet: bool) -> Result<Option<Identities>> {
        let mut all = Identities::default();
        for path in &self.identities {
            all.merge(identities_of(path, "--identity", quiet)?);
        }
        for command in &self.identity_commands {
            all.merge(identities_of_command(command)?);
        }
        let passphrase = self.passphrase.source();
        if let Some(source) = &passphrase {
            let passphrase = source.passphrase("passphrase of the model", quiet)?;
            all.merge(Identities::passphrase(passphrase));
        }
        if !self.is_given() && passphrase.is_none() {
            let Some(named) = Named::by_environment()? else {
                return Ok(None);
            };
            all.merge(identities(named.open(quiet)?)?);
        }
        Ok(Some(all))
    }

    /// Returns whether the command line names a file or a command.
    pub fn is_given(&self) -> bool {
        !(self.identities.is_empty() && self.identity_commands.is_empty())
    }

    /// Reads the identities, or the one that the environment names, and fails if there are none.
    pub fn require(&self, quiet: bool) -> Result<Identities> {
        self.read(quiet)?.ok_or_else(|| {
            let message = format!(
                "no identity: name a file with --identity or in {IDENTITY_VARIABLE}, or a program with --identity-command, or give a passphrase with --passphrase"
            );
            Usage(message).into()
        })
    }
}

#[cfg(target_os = "linux")]
impl IdentityArgs {
    /// The files and descriptors that are read, as paths.
    pub fn files(&self) -> Vec<PathBuf> {
        let PassphraseArgs {
            passphrase: _,
            passphrase_file,
            passphrase_fd,
        } = &self.passphrase;
        let named = self.identities.iter().chain(passphrase_file);
        let named = named.map(|path| path_by_name(path));
        let by_number = passphrase_fd.map(path_of_descriptor);
        (named.chain(by_number).chain(file_named_by_environment())).collect()
    }
}

/// The path that an argument names for reading: `-` is standard input.
pub fn path_by_name(path: &Path) -> PathBuf {
    match path.as_os_str().to_str() {
        Some("-") => path_of_descriptor(0),
        _ => path.to_owned(),
    }
}

impl PassphraseArgs {
    /// Returns a passphrase for something new, if the command line asks for one.
    pub fn new_passphrase(&self, quiet: bool) -> Result<Option<Passphrase>> {
        let source = self.source();
        source
            .map(|source| source.new_passphrase(quiet))
            .transpose()
    }

    fn source(&self) -> Option<Source<'_>> {
        let PassphraseArgs {
            passphrase,
            passphrase_file,
            passphrase_fd,
        } = self;
        Source::of(*passphrase, passphrase_file.as_deref(), *passphrase_fd)
    }
}

impl NewPassphraseArgs {
    fn source(&self) -> Option<Source<'_>> {
        let NewPassphraseArgs {
            new_passphrase,
            new_passphrase_file,
            new_passphrase_fd,
        } = self;
        Source::of(
            *new_passphrase,
            new_passphrase_file.as_deref(),
            *new_passphrase_fd,
        )
    }
}

impl Source<'_> {
    fn of(terminal: bool, file: Option<&Path>, descriptor: Option<u32>) -> Option<Source<'_>> {
        match (terminal, file, descriptor) {
            (true, ..) => Some(Source::Terminal),
            (_, Some(path), _) => Some(Source::File(path)),
            (_, _, Some(n)) => Some(Source::Descriptor(n)),
            _ => None,
        }
    }

    /// Returns the passphrase of something that exists.
    fn passphrase(&self, description: &str, quiet: bool) -> Result<Passphrase> {
        let (file, name) = match self {
            Source::Terminal => return Ok(ask_passphrase(description)?),
            Source::File(path) => open_secret(path, "--passphrase-file", quiet)?,
            Source::Descriptor(n) => open_descriptor(*n)?,
        };
        Ok(Passphrase::read(file, &name).map_err(Error::Key)?)
    }

    /// Returns a passphrase for something new. Asks twice, since a typing error would lock it for
    /// ever.
    fn new_passphrase(&self, quiet: bool) -> Result<Passphrase> {
        let passphrase = self.passphrase("new passphrase", quiet)?;
        if let Source::Terminal = self
            && !passphrase.is_same(&ask_passphrase("the same again")?)
        {
            return Err(Usage("the two passphrases differ".into()).into());
        }
        Ok(passphrase)
    }
}

type Opened = (Box<dyn Read>, String);

/// Reads the identity file that the option `what` names.
pub fn identities_of(path: &Path, what: &str, quiet: bool) -> Result<Identities> {
    identities(open_secret(path, what, quiet)?)
}

/// Reads the identities that a program prints.
fn identities_of_command(line: &str) -> Result<Identities> {
    if holds_secret(line) {
        let text = "--identity-command holds a key; it must name a program that prints one";
        return Err(Usage(text.into()).into());
    }
    let command = IdentityCommand::parse(line).map_err(Error::Key)?;
    let stop = Stop::listen()?;
    let patience = program_patience().unwrap_or(COMMAND_PATIENCE);
    let is_stopped = || stop.signal().is_some();
    let read = command.identities(patience, Arc::new(Terminal), &is_stopped);
    match stop.signal() {
        Some(signal) => Err(stopped(signal, "nothing was opened yet")),
        None => Ok(read.map_err(Error::Key)?),
    }
}

fn identities((file, name): Opened) -> Result<Identities> {
    Ok(Identities::read_with(file, &name, Arc::new(Terminal)).map_err(Error::Key)?)
}

/// The identity that the environment names.
enum Named {
    File(PathBuf),
    Descriptor(u32),
}

impl Named {
    /// Reads the variable, and fails if its value cannot be the name of a file or a descriptor.
    fn by_environment() -> Result<Option<Named>> {
        let Some(value) = std::env::var_os(IDENTITY_VARIABLE) else {
            return Ok(None);
        };
        if value.is_empty() {
            // As in CI, where a secret is missing: a check without the key would pass for one with
            // it.
            let text = format!("{IDENTITY_VARIABLE} is empty: name an identity file, or unset it");
            return Err(Usage(text).into());
        }
        if holds_secret(&value.to_string_lossy()) {
            return Err(holds_a_key(IDENTITY_VARIABLE, ", or fd:N"));
        }
        let number = value.to_str().and_then(|text| text.strip_prefix("fd:"));
        Ok(Some(match number.map(str::parse) {
            None => Named::File(value.into()),
            Some(Ok(n)) => Named::Descriptor(n),
            Some(Err(_)) => {
                let text = format!(
                    "{IDENTITY_VARIABLE}: {} is not a descriptor",
                    value.display()
                );
                return Err(Usage(text).into());
            }
        }))
    }

    fn open(self, quiet: bool) -> Result<Opened> {
        match self {
            Named::File(path) => open_secret(&path, IDENTITY_VARIABLE, quiet),
            Named::Descriptor(n) => open_descriptor(n),
        }
        .with_context(|| format!("{IDENTITY_VARIABLE} cannot be used"))
    }
}

/// Returns the file or descriptor that the environment names, if any.
pub fn file_named_by_environment() -> Option<PathBuf> {
    Some(match Named::by_environment().ok()?? {
        Named::File(path) => path,
        Named::Descriptor(n) => path_of_descriptor(n),
    })
}

/// Returns the path of an open descriptor of this process.
pub fn path_of_descriptor(n: u32) -> PathBuf {
    format!("/dev/fd/{n}").into()
}

/// Fails if the path given for `what` is a secret key instead of the name of a file.
pub fn names_a_file(path: &Path, what: &str) -> Result<()> {
    if holds_secret(&path.to_string_lossy()) {
        Err(holds_a_key(what, ""))
    } else {
        Ok(())
    }
}

fn holds_a_key(what: &str, or: &str) -> anyhow::Error {
    Usage(format!("{what} holds a key; it must name a file{or}")).into()
}

/// Opens `path`, given for `what`: a file, a pipe such as the shell's `<(...)`, a terminal, or as
/// `-` standard input. Serves for all inputs except models and data.
pub fn open(path: &Path, what: &str) -> Result<Opened> {
    names_a_file(path, what)?;
    if path.as_os_str() == OsStr::new("-") {
        return standard_input();
    }
    let name = path.display().to_string();
    let file = open_handed_over(path).with_context(|| format!("cannot open {name}"))?;
    Ok((Box::new(file), name))
}

/// Opens a secret file as [`open`] does, and warns if others can read it.
fn open_secret(path: &Path, what: &str, quiet: bool) -> Result<Opened> {
    #[cfg(unix)]
    if !quiet && let Ok(file) = path.metadata() {
        use std::os::unix::fs::MetadataExt as _;
        let mode = file.mode() & 0o777;
        if file.is_file() && mode & 0o077 != 0 {
            let name = path.display().to_string();
            note(&format!(
                "warning: others can read or write {} (mode {mode:o}): make it yours alone with chmod 600",
                one_line(&name)
            ));
        }
    }
    let _ = quiet;
    open(path, what)
}

/// Opens a descriptor that the caller left open. It reopens the descriptor, which works for files
/// and pipes, instead of taking it over.
fn open_descriptor(n: u32) -> Result<Opened> {
    if n == 0 {
        return standard_input();
    }
    let name = format!("descriptor {n}");
    let file = File::open(path_of_descriptor(n)).with_context(|| format!("cannot open {name}"))?;
    Ok((Box::new(file), name))
}

/// Opens standard input, which can be read only once.
fn standard_input() -> Result<Opened> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        Err(Usage("standard input can serve only one argument".into()).into())
    } else {
        Ok((Box::new(std::io::stdin()), "standard input".into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    /// A command that opens a model and wraps its key again.
    #[derive(Debug, Parser)]
    struct Both {
        #[command(flatten)]
        identities: IdentityArgs,
        #[command(flatten)]
        recipients: NewRecipientArgs,
    }

    #[test]
    fn one_command_may_have_both_sides() {
        Both::command().debug_assert();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        std::fs::write(&path, "new passphrase\n").unwrap();
        let path = path.to_str().unwrap();
        let args = [
            "both",
            "--passphrase-file",
            path,
            "--new-passphrase-file",
            path,
        ];
        let both = Both::try_parse_from(args).unwrap();
        let identities = both.identities.require(true).unwrap();
        let recipients = both.recipients.require(true).unwrap();
        assert_eq!(
            format!("{identities:?} {recipients:?}"),
            "Identities(1) [(None, Recipients(1))]"
        );

        let none = Both::try_parse_from(["both"]).unwrap();
        assert!(none.recipients.require(true).is_err());
        for twice in [
            ["both", "--new-passphrase", "--new-passphrase-fd", "3"],
            ["both", "--passphrase", "--passphrase-fd", "3"],
        ] {
            assert!(Both::try_parse_from(twice).is_err());
        }
    }
}
