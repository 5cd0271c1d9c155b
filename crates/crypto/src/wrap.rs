//! Data keys wrapped to recipients: one ASCII-armored [age](https://age-encryption.org/v1) file
//! whose payload is the 32 bytes of the key. `docs/KEYS.md` has the kinds of keys there are.

mod armor;
mod identities;
mod prompt;
mod recipients;
mod ssh;
#[cfg(test)]
mod tests;

use age::plugin::ResolveError;

use crate::error::Error;

pub use armor::MAX_WRAPPED_BYTES;
pub use identities::{Identities, Identity, MAX_WORK_FACTOR, generate_identity};
pub use prompt::{MAX_PASSPHRASE_BYTES, NoPrompt, Passphrase, Prompt};
pub use recipients::Recipients;
pub use ssh::MAX_BCRYPT_ROUNDS;
pub(crate) use ssh::check_rounds;

/// The longest identity file or recipients file that is read, in bytes.
pub const MAX_KEY_FILE_BYTES: usize = 256 << 10;

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
