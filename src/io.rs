//! Writes new files and reads policies for the commands.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use onnxseal_core::{
    Error, MAX_RANKING_BYTES, Policy, Preset, Ranking, Readers, There, folder_of, holds_secret,
    sync_folder, write_whole,
};

use crate::cli;
use crate::exit::Usage;
use crate::{keys, named};

/// Writes the `text` of a new key to `path` and syncs it. Only the owner can read the file. Never
/// replaces a file, but writes to a stream that exists at `path`.
pub fn write_identity(text: &str, path: &Path) -> Result<()> {
    write_key(text, path, true)
}

/// Writes a key as [`write_identity`] does; `sync` says whether to wait for the disk, which keys
/// that can be made again do not need.
pub fn write_key(text: &str, path: &Path, sync: bool) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    if check_key(path)? == There::Stream {
        return write_whole(path, text.as_bytes(), false, Readers::Owner).with_context(context);
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => key_exists(path),
        _ => anyhow::Error::new(error).context(context()),
    })?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| if sync { file.sync_all() } else { Ok(()) })
        .with_context(context);
    match &written {
        Ok(()) if !sync => {}
        Ok(()) => sync_folder(folder_of(path)),
        Err(_) => drop(fs::remove_file(path)),
    }
    written
}

/// Returns what exists at the path of a new key, and fails if it is a file.
pub fn check_key(path: &Path) -> Result<There> {
    match There::at(path).map_err(Error::Store)? {
        There::File => Err(key_exists(path)),
        there => Ok(there),
    }
}

fn key_exists(path: &Path) -> anyhow::Error {
    let path = path.display();
    Usage(format!(
        "{path} exists already; keys are never overwritten: move it away, or choose another name"
    ))
    .into()
}

/// An output of a command, other than a model or a key.
#[derive(Debug)]
pub struct Written<'a> {
    /// The path to write.
    pub path: &'a Path,
    /// The kind of file in messages, such as `report`.
    pub what: &'static str,
    /// Whether to replace any existing file.
    pub force: bool,
    /// Tells from a file's first bytes whether it is an earlier output, which may be replaced
    /// without `force`. If absent, only `force` replaces files.
    pub is_earlier: Option<fn(&[u8]) -> bool>,
}

impl<'a> Written<'a> {
    /// Describes a file that only `force` replaces.
    pub fn new(path: &'a Path, what: &'static str, force: bool) -> Written<'a> {
        Written {
            path,
            what,
            force,
            is_earlier: None,
        }
    }

    /// Fails if the file may not be written. Returns whether it replaces one.
    pub fn check(&self) -> Result<bool> {
        let Written {
            path,
            what,
            force,
            is_earlier: _,
        } = self;
        named::check(path)?;
        if There::at(path).map_err(Error::Store)? != There::File {
            return Ok(false);
        }
        let shown = path.display();
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
        let is_earlier = |is_earlier: &fn(&[u8]) -> bool| start.is_empty() || is_earlier(&start);
        if *force || (read.is_ok() && self.is_earlier.as_ref().is_some_and(is_earlier)) {
            return Ok(true);
        }
        let but = match self.is_earlier {
            Some(_) => format!(", and is not an earlier {what}"),
            None => String::new(),
        };
        let text =
            format!("{shown} exists already{but}: choose another name, or replace it with --force");
        Err(Usage(text).into())
    }

    /// Checks again, and writes `bytes` whole or not at all.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.write_for(Readers::Usual, bytes)
    }

    /// Checks again, and writes `bytes` whole or not at all, readable only by the owner.
    pub fn write_secret(&self, bytes: &[u8]) -> Result<()> {
        self.write_for(Readers::Owner, bytes)
    }

    fn write_for(&self, readers: Readers, bytes: &[u8]) -> Result<()> {
        let replace = self.check()?;
        let write = || {
            fs::create_dir_all(folder_of(self.path))?;
            write_whole(self.path, bytes, replace || self.force, readers)
        };
        write().with_context(|| format!("cannot write the {} {}", self.what, self.path.display()))
    }
}

/// Returns the policy that the command line asks for, or the default.
pub fn policy(args: &cli::Policy) -> Result<Policy> {
    let mut policy = policy_of(args)?.unwrap_or_default();
    allow_clear(&mut policy, &args.allow)?;
    if args.allow_unmatched {
        policy.allow_unmatched();
    }
    if let Some(lock) = args.lock() {
        policy.set_lock(lock);
    }
    Ok(policy)
}

/// Returns the policy, if the command line asks for one.
pub fn chosen_policy(args: &cli::Policy) -> Result<Option<Policy>> {
    match policy_of(args)? {
        Some(mut policy) => {
            allow_clear(&mut policy, &args.allow)?;
            Ok(Some(policy))
        }
        None => no_allowance_alone(&args.allow).map(|()| None),
    }
}

fn policy_of(args: &cli::Policy) -> Result<Option<Policy>> {
    let named = named_policy(args.policy.as_deref(), args.preset)?;
    if named.is_none() && args.coefficients.is_empty() {
        return no_ranking_alone(args.ranking.as_deref()).map(|()| None);
    }
    let mut policy = named.unwrap_or_default();
    if let Some(path) = &args.ranking {
        policy.set_ranking(read_ranking(path)?);
    }
    for (op_type, share) in &args.coefficients {
        policy
            .set_coefficient(op_type, *share)
            .map_err(Error::Policy)?;
    }
    if args.allow_unmatched {
        policy.allow_unmatched();
    }
    Ok(Some(policy))
}

/// Returns the claims that the command line makes.
pub fn claims(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut claims = BTreeMap::new();
    for (key, value) in pairs {
        if claims.insert(key.clone(), value.clone()).is_some() {
            return Err(Usage(format!("claim {key} is given twice")).into());
        }
    }
    Ok(claims)
}

/// Returns the least policy of models, if the command line demands one.
pub fn least_policy(args: &cli::LeastPolicy) -> Result<Option<Policy>> {
    let Some(mut policy) = named_policy(args.policy.as_deref(), args.preset)? else {
        no_allowance_alone(&args.allow)?;
        return no_ranking_alone(args.ranking.as_deref()).map(|()| None);
    };
    if let Some(path) = &args.ranking {
        policy.set_ranking(read_ranking(path)?);
    }
    allow_clear(&mut policy, &args.allow)?;
    if args.allow_unmatched {
        policy.allow_unmatched();
    }
    Ok(Some(policy))
}

fn allow_clear(policy: &mut Policy, allow: &cli::AllowClear) -> Result<()> {
    for pattern in &allow.names {
        policy.allow_clear(pattern).map_err(Error::Policy)?;
    }
    Ok(())
}

fn no_allowance_alone(allow: &cli::AllowClear) -> Result<()> {
    match allow.names.is_empty() {
        true => Ok(()),
        false => {
            let text = "--allow-clear is part of a policy: give --policy or --preset too";
            Err(Usage(text.into()).into())
        }
    }
}

fn no_ranking_alone(ranking: Option<&Path>) -> Result<()> {
    match ranking {
        None => Ok(()),
        Some(_) => {
            let text = "--ranking says which weights come first, not how many: give --policy or --preset too";
            Err(Usage(text.into()).into())
        }
    }
}

/// Lets entries of a policy match nothing, since models of many kinds differ.
pub fn for_many(mut policy: Policy) -> Policy {
    policy.allow_unmatched();
    policy
}

/// Returns the policy of a file or a preset, if one is given.
fn named_policy(file: Option<&Path>, preset: Option<Preset>) -> Result<Option<Policy>> {
    match file {
        Some(path) => read_policy(path).map(Some),
        None => Ok(preset.map(Policy::preset)),
    }
}

/// Reads a ranking file.
pub fn read_ranking(path: &Path) -> Result<Ranking> {
    let json = read(path, "--ranking", MAX_RANKING_BYTES)?;
    let ranking = Ranking::parse(&json).map_err(Error::Policy);
    ranking.with_context(|| format!("in {}", path.display()))
}

/// The longest policy file, in bytes.
const MAX_POLICY_BYTES: usize = 16 << 20;

/// Reads the file `path`, given for `what`, and fails if it has more than `max_bytes`.
pub fn read(path: &Path, what: &str, max_bytes: usize) -> Result<Vec<u8>> {
    let (file, name) = keys::open(path, what)?;
    let mut bytes = Vec::new();
    // One byte beyond the limit shows that the file is too long.
    let read = file.take(max_bytes as u64 + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {name}"))?;
    if bytes.len() > max_bytes {
        let text = format!("{name} is longer than {max_bytes} bytes, too long for {what}");
        return Err(Usage(text).into());
    }
    Ok(bytes)
}

/// Reads a text file as [`read`] does.
pub fn read_text(path: &Path, what: &str, max_bytes: usize) -> Result<String> {
    let text = String::from_utf8(read(path, what, max_bytes)?);
    text.map_err(|_| Usage(format!("{} is not text in UTF-8", path.display())).into())
}

/// Reads a policy file.
pub fn read_policy(path: &Path) -> Result<Policy> {
    read_policy_text(path).map(|(policy, _)| policy)
}

/// Reads a policy file, and returns its text too.
pub fn read_policy_text(path: &Path) -> Result<(Policy, String)> {
    let text = read_text(path, "--policy", MAX_POLICY_BYTES)?;
    if holds_secret(&text) {
        let text = format!("{} holds a secret key, not a policy", path.display());
        return Err(Usage(text).into());
    }
    let policy = Policy::parse(&text).map_err(Error::Policy);
    let policy = policy.with_context(|| format!("in {}", path.display()))?;
    Ok((policy, text))
}
