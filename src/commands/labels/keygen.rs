//! `onnxseal labels setup`, `keygen`, `users` and `revoke`

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use onnxseal_core::{Recipients, There, check_key, write_key, write_key_unsynced};
use onnxseal_labels::Authority;
use serde_json::json;

use super::authority;
use crate::cli::labels::{Keygen, Revoke, Setup, Users};
use crate::exit::usage;
use crate::text::{count, one_line, printable, tell};
use crate::{io, render};

pub fn setup(args: &Setup) -> Result<()> {
    let recipients = args.recipients.read_untiered("a label authority")?;
    if recipients
        .as_ref()
        .is_some_and(|recipients| recipients.names().next().is_none())
    {
        return Err(usage(
            "other commands write the label authority again, which a passphrase does not allow: give a recipient",
        ));
    }
    let authority = Authority::generate(args.collusion, recipients.as_ref())?;
    write_key(&args.output, &authority.to_file()?)?;
    if !authority.is_encrypted() {
        tell("warning: the authority is not encrypted: give --recipient to encrypt it with age");
    }
    tell(&format!(
        "{} may pool their keys without learning the authority's exponents. Two who mix their keys get one that cannot be traced: docs/LABELS.md",
        count(args.collusion.into(), "user")
    ));
    Ok(())
}

/// Makes keys, and notes their users.
pub fn run(args: &Keygen) -> Result<()> {
    let recipients = match &args.recipients[..] {
        [] => None,
        texts => Some(Recipients::parse(texts)?),
    };
    let mut authority = authority::read(&args.authority)?;
    let names = match &args.users {
        None => args.user.clone(),
        Some(path) => io::listed(path, "user")?,
    };
    let mut n_new = 0;
    for name in &names {
        n_new += usize::from(authority.add_user(name)?);
    }
    if names.len() > 1 && There::at(&args.output).is_ok_and(|there| there == There::Stream) {
        return Err(usage(
            "keys of several users go to a folder: name one with --output",
        ));
    }
    let is_file = names.len() == 1 && args.users.is_none() && !args.output.is_dir();
    let path = |name: &str| -> Result<PathBuf> {
        let is_plain = !name.contains(['/', '\\']) && !name.starts_with('.');
        match (is_file, is_plain) {
            (true, _) => Ok(args.output.to_path_buf()),
            (false, true) => Ok(args.output.join(format!("{name}.key"))),
            (false, false) => Err(usage(format!(
                "user {name:?} cannot name a file: give --user and --output FILE"
            ))),
        }
    };
    // Make all keys before any is written.
    let mut keys = Vec::with_capacity(names.len());
    for name in &names {
        let (key, path) = (authority.user_key(name)?, path(name)?);
        check_key(&path)?;
        keys.push((key, path));
    }
    if !is_file {
        std::fs::create_dir_all(&*args.output)
            .with_context(|| format!("cannot make {}", args.output.display()))?;
    }
    // Write the list first: a key of an unlisted user could not be traced.
    if n_new > 0 {
        authority::replace(&authority, &args.authority.authority)?.keep();
    }
    for (key, path) in &keys {
        let text = match &recipients {
            Some(recipients) => key.to_encrypted_text(recipients)?.into(),
            None => key.to_text(),
        };
        // After a power loss, the authority's file gives the same key again.
        match is_file {
            true => write_key(path, &text)?,
            false => write_key_unsynced(path, &text)?,
        }
    }
    tell(&format!(
        "wrote {}; users: {} ({n_new} new)",
        count(keys.len() as u64, "key"),
        authority.users().len()
    ));
    Ok(())
}

pub fn users(args: &Users) -> Result<()> {
    let authority = authority::read(&args.authority)?;
    if args.json {
        let users = authority
            .users()
            .map(|(name, is_revoked)| json!({"name": name, "revoked": is_revoked}));
        return render::json(&users.collect::<Vec<_>>());
    }
    let mut out = std::io::stdout().lock();
    for (name, is_revoked) in authority.users() {
        writeln!(
            out,
            "{}{}",
            printable(name),
            if is_revoked { "  (revoked)" } else { "" }
        )?;
    }
    Ok(())
}

pub fn revoke(args: &Revoke) -> Result<()> {
    let mut authority = authority::read(&args.authority)?;
    for name in &args.user {
        authority.revoke(name)?;
    }
    authority::replace(&authority, &args.authority.authority)?.keep();
    let names: Vec<String> = args.user.iter().map(|name| one_line(name)).collect();
    tell(&format!(
        "revoked {}: decoders refuse the key for models protected from now on. The key still decrypts their labels for a program that does not check",
        names.join(", ")
    ));
    Ok(())
}
