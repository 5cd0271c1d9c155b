//! Input keys: their parameters, and the numbers drawn from their seed.

mod map;
mod spec;
mod text;

use std::any::Any;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use onnxseal_crypto::inputs::InputSeed;
use onnxseal_crypto::wrap::{Identities, MAX_KEY_FILE_BYTES, Recipients, key_text, read_secret};
use zeroize::Zeroizing;

pub use map::BlockMap;
pub use spec::{
    Layout, MAX_BLOCK, MAX_BLOCK_VALUES, MAX_CHANNELS, MAX_ORTHOGONAL, Normalisation, Order, Spec,
    Transform,
};

use crate::error::{Error, Result};

/// An input key: its parameters, and its secret seed.
pub struct InputKey {
    spec: Spec,
    seed: InputSeed,
    map: OnceLock<BlockMap>,
    /// The cipher that the module above made last, of a type that this module does not know.
    pub(crate) last: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

/// FFX's replacements for the pixels 0 to 255, and whether each place of a block has them.
type Replacements = (Zeroizing<[u16; 256]>, Vec<bool>);

impl InputKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`Error::Usage`] if `spec` contradicts itself or exceeds a limit.
    pub fn generate(spec: Spec) -> Result<InputKey> {
        InputKey::new(spec, InputSeed::generate()?).map_err(Error::Usage)
    }

    fn new(spec: Spec, seed: InputSeed) -> std::result::Result<InputKey, String> {
        spec.check()?;
        Ok(InputKey {
            spec,
            seed,
            map: OnceLock::new(),
            last: Mutex::default(),
        })
    }

    /// Reads the text of a key.
    pub fn from_text(text: &str) -> Result<InputKey> {
        let malformed = |reason| Error::MalformedKey { reason };
        let (spec, seed) = text::parse(text).map_err(malformed)?;
        InputKey::new(spec, seed).map_err(malformed)
    }

    /// Reads a key file, and decrypts it with `identities` if it is an age file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::MalformedKey`], [`Error::Key`] if it does not open.
    pub fn open(path: &Path, identities: Option<&Identities>) -> Result<InputKey> {
        let file = std::fs::File::open(path).map_err(io(path))?;
        InputKey::read(file, path, identities)
    }

    /// Reads a key from an open file; `path` names it in errors.
    pub fn read(file: impl Read, path: &Path, identities: Option<&Identities>) -> Result<InputKey> {
        let bytes = read_secret(file, MAX_KEY_FILE_BYTES).map_err(io(path))?;
        InputKey::from_bytes(&bytes, identities)
    }

    /// Reads a key from the bytes of a file.
    pub fn from_bytes(bytes: &[u8], identities: Option<&Identities>) -> Result<InputKey> {
        let malformed = |reason: &str| Error::MalformedKey {
            reason: reason.to_owned(),
        };
        if bytes.len() > MAX_KEY_FILE_BYTES {
            return Err(malformed("it is too long"));
        }
        let text = key_text(bytes, identities, "the key")?;
        InputKey::from_text(&text.ok_or_else(|| malformed("it is no text"))?)
    }

    /// Returns the text of the key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::write(&self.spec, &self.seed)
    }

    /// Returns the text of the key file, encrypted with age.
    pub fn to_encrypted_text(&self, recipients: &Recipients) -> Result<String> {
        Ok(recipients.encrypt_text(&self.to_text())?)
    }

    /// Returns the public parameters of the key.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the key's map of the values of a block, without FFX.
    pub fn map(&self) -> Result<&BlockMap> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = BlockMap::draw(&self.spec, &self.seed)?;
        Ok(self.map.get_or_init(|| map))
    }

    /// Returns FFX's replacements, or `None` without FFX.
    pub(crate) fn ffx(&self) -> Result<Option<Replacements>> {
        if !self.spec.has(Transform::Ffx) {
            return Ok(None);
        }
        let mask = map::mask(&self.spec, &self.seed)?;
        Ok(Some((self.seed.ffx_table()?, mask)))
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}

impl fmt::Debug for InputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InputKey {
            spec,
            seed: _,
            map: _,
            last: _,
        } = self;
        f.debug_struct("InputKey")
            .field("spec", spec)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
