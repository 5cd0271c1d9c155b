//! Data keys wrapped to recipients: one ASCII-armored [age](https://age-encryption.org/v1) file
//! whose payload is the 32 bytes of the key. `docs/KEYS.md` has the kinds of keys there are.

mod armor;
mod identities;
mod prompt;
mod recipients;
mod ssh;
#[cfg(test)]
mod tests;

use std::io::Read;

use age::plugin::ResolveError;
use zeroize::Zeroizing;

use crate::error::Error;

pub use armor::MAX_WRAPPED_BYTES;
pub use identities::{Identities, Identity, MAX_WORK_FACTOR, generate_identity};
pub use prompt::{MAX_PASSPHRASE_BYTES, NoPrompt, Passphrase, Prompt};
pub use recipients::Recipients;
pub use ssh::MAX_BCRYPT_ROUNDS;
pub(crate) use ssh::check_rounds;

/// The longest identity file or recipients file that is read, in bytes.
pub const MAX_KEY_FILE_BYTES: usize = 256 << 10;

/// Reads a file of at most [`MAX_KEY_FILE_BYTES`]. `what` is measured by that, `name` is the file's.
fn read_limited(
    file: impl Read,
    name: &str,
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Allocated once: a buffer that grows leaves secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES + 1));
    file.take(MAX_KEY_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Io {
            name: name.to_owned(),
            source,
        })?;
    match bytes.len() > MAX_KEY_FILE_BYTES {
        true => Err(Error::LimitExceeded {
            what,
            limit: MAX_KEY_FILE_BYTES,
        }),
        false => Ok(bytes),
    }
}

fn malformed(reason: &'static str) -> Error {
    Error::MalformedKey { reason }
}

fn plugin_fault(faults: &[impl ToString]) -> Error {
    let reasons: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Error::Plugin {
        reason: reasons.join("; "),
    }
}

fn resolve_fault(fault: ResolveError) -> Error {
    let program = match fault {
        ResolveError::MissingPlugin { binary_name } => binary_name,
        ResolveError::InvalidPluginName { name } => format!("age-plugin-{name}"),
        other => other.to_string(),
    };
    Error::PluginMissing { program }
}
