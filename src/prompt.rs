//! Questions on the terminal, for passphrases and plugins.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::Duration;

use anyhow::Result;
use onnxseal_core::{KeyError, PLUGIN_PATIENCE, Passphrase, Prompt};
use zeroize::Zeroizing;

use crate::exit::usage;
use crate::text::{note, one_line};

/// Asks on the terminal, even if standard input is redirected.
pub struct Terminal;

impl Prompt for Terminal {
    fn passphrase(&self, description: &str) -> Option<Passphrase> {
        ask_passphrase(description)
            .inspect_err(|error| note(&one_line(&error.to_string())))
            .ok()
    }

    fn text(&self, description: &str) -> Option<String> {
        ask_line(description)
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let no = no.unwrap_or("no");
        let question = format!("{message} [1] {yes} [2] {no}");
        match ask_line(&question)?.trim() {
            "1" => Some(true),
            "2" => Some(false),
            _ => None,
        }
    }

    fn show(&self, message: &str) {
        note(&one_line(message));
    }

    fn plugin_patience(&self) -> Duration {
        program_patience().unwrap_or(PLUGIN_PATIENCE)
    }
}

/// Returns how long a plugin or an identity command may take, if the environment says so.
pub fn program_patience() -> Option<Duration> {
    let value = std::env::var_os(PATIENCE_VARIABLE)?;
    let seconds = value.to_str().and_then(|value| value.parse().ok());
    let seconds = seconds.filter(|seconds| (1..=86_400).contains(seconds));
    if seconds.is_none() {
        note(&format!(
            "warning: {PATIENCE_VARIABLE} is not a number of seconds from 1 to 86400"
        ));
    }
    seconds.map(Duration::from_secs)
}

pub fn passphrase_of_key(name: &str) -> std::result::Result<Passphrase, KeyError> {
    let asked = Terminal.passphrase(&format!("passphrase of {name}"));
    asked.ok_or_else(|| KeyError::PassphraseNeeded(name.to_owned()))
}

pub fn ask_passphrase(description: &str) -> Result<Passphrase> {
    let typed = rpassword::prompt_password(format!("{}: ", one_line(description)));
    let typed = typed.map(Zeroizing::new).map_err(|error| {
        usage(format!(
            "cannot ask for the {description} on a terminal: {error}"
        ))
    })?;
    Passphrase::new(&typed, description).map_err(|error| usage(error.to_string()))
}

fn ask_line(question: &str) -> Option<String> {
    const MAX_BYTES: u64 = 4096;
    // Windows' console is written to and read from by two names.
    let [to, from] = if cfg!(windows) {
        ["CONOUT$", "CONIN$"]
    } else {
        ["/dev/tty"; 2]
    };
    let open = |path| File::options().read(true).write(true).open(path).ok();
    write!(open(to)?, "{}: ", one_line(question)).ok()?;
    let mut line = String::new();
    let mut reader = BufReader::new(open(from)?.take(MAX_BYTES));
    reader.read_line(&mut line).ok()?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Some(line)
}

/// The variable with the seconds that an age plugin or an identity command may take.
const PATIENCE_VARIABLE: &str = "ONNXSEAL_PLUGIN_SECONDS";
