//! Recipients, identities and passphrases: from arguments, files, programs and the terminal.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use onnxseal_core::{
    COMMAND_PATIENCE, Error, IDENTITY_VARIABLE, Identities, IdentityCommand, KeyError, Passphrase,
    RecipientNotes, Recipients, TierRecipients, holds_secret, identity_of_environment,
    join_recipients, open_named, path_of_descriptor,
};

use crate::exit::{stopped, usage};
use crate::prompt::{Terminal, ask_passphrase, program_patience};
use crate::stop::Stop;
#[cfg(unix)]
use crate::text::{one_line, tell};

#[derive(Debug, Args)]
pub struct RecipientArgs<P: Args = PassphraseArgs> {
    /// Who can open the result: an age recipient (age1...) or an ssh public key; may be given
    /// several times. With tiers: TIER=RECIPIENT
    #[arg(short, long = "recipient", value_name = "RECIPIENT")]
    pub recipients: Vec<String>,

    /// File with one recipient per line, - for standard input; may be given several times. With
    /// tiers: TIER=FILE
    #[arg(short = 'R', long = "recipients-file", value_name = "FILE")]
    pub recipients_files: Vec<PathBuf>,

    /// Comment in the result, such as who has the keys. Anyone can read it (`inspect`), and no
    /// signature covers it
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,

    /// List the recipients' public keys in the result. Anyone can read them (`inspect`), and `rekey
    /// --add` can keep these recipients without their identities
    #[arg(long)]
    pub list_recipients: bool,

    #[command(flatten)]
    pub passphrase: P,
}

/// The recipients for commands that also open a model, perhaps with another passphrase.
pub type NewRecipientArgs = RecipientArgs<NewPassphraseArgs>;

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

    /// Use the passphrase on the first line of a file, - for standard input, /dev/fd/N for a
    /// descriptor
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct NewPassphraseArgs {
    /// Wrap to a passphrase, asked for on the terminal
    #[arg(long)]
    pub new_passphrase: bool,

    /// Wrap to the passphrase on the first line of a file, - for standard input, /dev/fd/N for a
    /// descriptor
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
}

pub trait PassphraseSource {
    const OPTION: &'static str;

    /// Returns the option that has a file, and the file; neither for the terminal.
    fn source(&self) -> Option<Option<&Path>>;

    /// Reads the passphrase that `description` names, if the command line asks for one.
    fn read(&self, description: &str) -> Result<Option<Passphrase>> {
        let Some(source) = self.source() else {
            return Ok(None);
        };
        let Some(path) = source else {
            return Ok(Some(ask_passphrase(description)?));
        };
        let (file, name) = open_secret(path, &format!("{}-file", Self::OPTION))?;
        Ok(Some(Passphrase::read(file, &name).map_err(Error::Key)?))
    }

    /// Reads a passphrase for something new. Asks twice, since a typing error would lock it for ever.
    fn read_new(&self) -> Result<Option<Passphrase>> {
        let passphrase = self.read("new passphrase")?;
        if let (Some(passphrase), Some(None)) = (&passphrase, self.source())
            && !passphrase.is_same(&ask_passphrase("the same again")?)
        {
            return Err(usage("the two passphrases differ"));
        }
        Ok(passphrase)
    }
}

impl PassphraseSource for PassphraseArgs {
    const OPTION: &'static str = "--passphrase";

    fn source(&self) -> Option<Option<&Path>> {
        let file = self.passphrase_file.as_deref();
        (self.passphrase || file.is_some()).then_some(file)
    }
}

impl PassphraseSource for NewPassphraseArgs {
    const OPTION: &'static str = "--new-passphrase";

    fn source(&self) -> Option<Option<&Path>> {
        let file = self.new_passphrase_file.as_deref();
        (self.new_passphrase || file.is_some()).then_some(file)
    }
}

impl<P: Args + PassphraseSource> RecipientArgs<P> {
    /// Reads the recipients. Fails without any, because nobody could open the result.
    pub fn require(&self) -> Result<TierRecipients> {
        match self.read()? {
            found if found.is_empty() => Err(usage(format!(
                "no recipient, so nobody could open the result: name one with --recipient, --recipients-file or {}",
                P::OPTION
            ))),
            found => Ok(found),
        }
    }

    /// Reads the recipients, if there are any.
    pub fn read(&self) -> Result<TierRecipients> {
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
        let passphrase = self.passphrase.read_new()?;
        found.extend(passphrase.map(|passphrase| (None, Recipients::passphrase(&passphrase))));
        let all = join_recipients(found)?.into_iter();
        all.map(|(tier, all)| Ok((tier, self.with_notes(all)?)))
            .collect()
    }

    /// Reads the recipients of `what`; `None` if the user names none. Refuses tiers.
    pub fn read_untiered(&self, what: &str) -> Result<Option<Recipients>> {
        let mut found = self.read()?;
        if found.iter().any(|(tier, _)| tier.is_some()) {
            return Err(usage(format!("{what} has no tiers: leave out TIER=")));
        }
        Ok(found.pop().map(|(_, recipients)| recipients))
    }

    /// Makes the recipients from a new identity's recipient, if the user gave none.
    pub fn of_new_identity(&self, recipient: &str) -> Result<TierRecipients> {
        let recipients = Recipients::parse(&[recipient]).map_err(Error::Key)?;
        Ok(vec![(None, self.with_notes(recipients)?)])
    }

    fn with_notes(&self, recipients: Recipients) -> Result<Recipients> {
        let notes = RecipientNotes {
            comment: self.comment.as_deref(),
            is_listed: self.list_recipients,
        };
        Ok(notes.add_to(recipients.with_prompt(Arc::new(Terminal)))?)
    }
}

/// Makes the error for an unusable recipient, which may be the name of a file.
fn no_recipient(text: &str, error: KeyError) -> anyhow::Error {
    let is_file = !holds_secret(text) && Path::new(text).is_file();
    match (&error, is_file) {
        (KeyError::InvalidRecipient { .. }, true) => usage(format!(
            "{text} is a file, and --recipient takes a recipient itself: give the file with -R {text}"
        )),
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
    pub fn read(&self) -> Result<Option<Identities>> {
        let mut all = Identities::default();
        for path in &self.identities {
            all.merge(identities_of(path, "--identity")?);
        }
        for command in &self.identity_commands {
            all.merge(identities_of_command(command)?);
        }
        if let Some(passphrase) = self.passphrase.read("passphrase of the model")? {
            all.merge(Identities::passphrase(&passphrase));
        } else if !self.is_given() {
            let Some(path) = identity_of_environment()? else {
                return Ok(None);
            };
            let named = identities_of(&path, IDENTITY_VARIABLE);
            all.merge(named.with_context(|| format!("{IDENTITY_VARIABLE} cannot be used"))?);
        }
        Ok(Some(all))
    }

    /// Returns whether the command line names a file or a command.
    pub fn is_given(&self) -> bool {
        !(self.identities.is_empty() && self.identity_commands.is_empty())
    }

    /// Reads the identities, or the one that the environment names, and fails if there are none.
    pub fn require(&self) -> Result<Identities> {
        self.read()?.ok_or_else(|| {
            usage(format!(
                "no identity: name a file with --identity or in {IDENTITY_VARIABLE}, or a program with --identity-command, or give a passphrase with --passphrase"
            ))
        })
    }

    /// Opens the secret file that the option `what` names by `read`, which gets the identities for a
    /// file that is encrypted.
    #[cfg(any(feature = "fingerprint", feature = "inputs", feature = "labels"))]
    pub fn open<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        path: &Path,
        what: &str,
        read: impl FnOnce(Box<dyn Read>, &Path, Option<&Identities>) -> std::result::Result<T, E>,
    ) -> Result<T> {
        let (file, name) = open_secret(path, what)?;
        let identities = self.read()?;
        read(file, Path::new(&name), identities.as_ref())
            .with_context(|| format!("cannot use {name}"))
    }

    #[cfg(target_os = "linux")]
    pub fn files(&self) -> Vec<PathBuf> {
        let named = self
            .identities
            .iter()
            .chain(&self.passphrase.passphrase_file);
        let named = named.map(|path| path_by_name(path));
        named.chain(file_of_environment()).collect()
    }
}

/// The path that an argument names for reading: `-` is standard input.
pub fn path_by_name(path: &Path) -> PathBuf {
    match path.as_os_str().to_str() {
        Some("-") => path_of_descriptor(0),
        _ => path.to_owned(),
    }
}

type Opened = (Box<dyn Read>, String);

/// Reads the identity file that the option `what` names.
pub fn identities_of(path: &Path, what: &str) -> Result<Identities> {
    let (file, name) = open_secret(path, what)?;
    Ok(Identities::read_with(file, &name, Arc::new(Terminal)).map_err(Error::Key)?)
}

fn identities_of_command(line: &str) -> Result<Identities> {
    if holds_secret(line) {
        return Err(usage(
            "--identity-command holds a key; it must name a program that prints one",
        ));
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

/// Returns the file or descriptor that the environment names, if any.
pub fn file_of_environment() -> Option<PathBuf> {
    identity_of_environment().ok().flatten()
}

/// Opens `path`, given for `what`: a file, a pipe such as the shell's `<(...)`, a terminal, or as
/// `-` standard input, which can be read only once. Serves for all inputs except models and data.
pub fn open(path: &Path, what: &str) -> Result<Opened> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if path_by_name(path) != path_of_descriptor(0) {
        let (file, name) = open_named(path, what)?;
        return Ok((Box::new(file), name));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(usage("standard input can serve only one argument"));
    }
    Ok((Box::new(std::io::stdin()), "standard input".into()))
}

/// Opens a secret file as [`open`] does, and warns if others can read it.
fn open_secret(path: &Path, what: &str) -> Result<Opened> {
    #[cfg(unix)]
    if let Ok(file) = path.metadata() {
        use std::os::unix::fs::MetadataExt as _;
        let mode = file.mode() & 0o777;
        if file.is_file() && mode & 0o077 != 0 {
            let name = path.display().to_string();
            tell(&format!(
                "warning: others can read or write {} (mode {mode:o}): make it yours alone with chmod 600",
                one_line(&name)
            ));
        }
    }
    open(path, what)
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
        let identities = both.identities.require().unwrap();
        let recipients = both.recipients.require().unwrap();
        assert_eq!(
            format!("{identities:?} {recipients:?}"),
            "Identities(1) [(None, Recipients(1))]"
        );

        let none = Both::try_parse_from(["both"]).unwrap();
        assert!(none.recipients.require().is_err());
        for twice in [
            ["both", "--new-passphrase", "--new-passphrase-file", "3"],
            ["both", "--passphrase", "--passphrase-file", "3"],
        ] {
            assert!(Both::try_parse_from(twice).is_err());
        }
    }
}
