//! Data keys wrapped to recipients: one ASCII-armored [age](https://age-encryption.org/v1) file
//! whose payload is the 32 bytes of the key. `docs/KEYS.md` lists the kinds of keys.

mod armor;
mod command;
mod header;
mod identities;
mod identity;
mod key_text;
mod plugin;
mod pq;
mod prompt;
mod recipients;
mod running;
mod ssh;
#[cfg(test)]
mod tests;

pub use armor::MAX_WRAPPED_BYTES;
pub use command::{COMMAND_PATIENCE, IdentityCommand};
pub use header::Header;
pub use identities::{Identities, MAX_WORK_FACTOR, check_wrapped};
pub use identity::{Identity, generate_identity, generate_pq_identity};
pub use key_text::key_text;
pub use prompt::{MAX_PASSPHRASE_BYTES, NoPrompt, PLUGIN_PATIENCE, Passphrase, Prompt};
pub use recipients::Recipients;
pub use ssh::MAX_BCRYPT_ROUNDS;

pub use crate::limited::read_secret;
pub(crate) use ssh::decrypt;

use x25519_dalek::{PublicKey, StaticSecret};

use crate::error::Error;

/// The longest identity file or recipients file to read, in bytes.
pub const MAX_KEY_FILE_BYTES: usize = 256 << 10;

const LOW_ORDER: &str = "a public key of low order";

/// Returns whether a shared secret with this X25519 public key depends on the secret key (RFC 7748,
/// section 6.1). Otherwise anyone could unwrap, and age panics.
fn has_prime_order_part(point: &PublicKey) -> bool {
    // Any scalar will do: X25519 makes a multiple of 8 of it.
    let shared = StaticSecret::from([1; 32]).diffie_hellman(point);
    shared.was_contributory()
}

fn malformed_identities(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::unusable(name, format_args!("malformed identity file: {reason}"))
}
