//! X-Wing, the KEM 0x647a of HPKE: ML-KEM-768 and X25519 side by side, and SHA3-256 over both
//! (draft-connolly-cfrg-xwing-kem-06).
//!
//! The crate `x-wing` cannot be built beside `age` 0.12: both need a crate `kem` 0.3, and
//! different ones. Once `age` has moved on, `hpke` 0.15 replaces this module. Until then this puts
//! together the parts that `age` puts together for its own `mlkem768p256tag`.

use hpke::generic_array::typenum::{Sum, U32, U96, U192, U1024};
use hpke::kem::SharedSecret;
use hpke::rand_core::{CryptoRng, RngCore};
use hpke::{Deserializable, HpkeError, Kem, Serializable};
use ml_kem::kem::{Decapsulate as _, Encapsulate as _};
use ml_kem::{Ciphertext, EncodedSizeUser as _, KemCore, MlKem768};
use sha3::digest::{ExtendableOutput as _, FixedOutput as _, Update as _};
use sha3::{Sha3_256, Shake256};
use x25519_dalek::{PublicKey as Point, StaticSecret};
use zeroize::Zeroizing;

use crate::wrap::has_prime_order_part;

type Decapsulation = <MlKem768 as KemCore>::DecapsulationKey;
type Encapsulation = <MlKem768 as KemCore>::EncapsulationKey;

const LABEL: &[u8; 6] = br"\.//^\";

pub(super) struct XWing;

/// The 32 bytes of which both secret keys are made.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PrivateKey(pub(super) Zeroizing<[u8; 32]>);

/// A valid public key: that of ML-KEM-768, then that of X25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey([u8; 1216]);

/// A ciphertext of ML-KEM-768, then a public key of X25519.
#[derive(Clone)]
pub(super) struct EncappedKey([u8; 1120]);

impl PrivateKey {
    fn expand(&self) -> (Decapsulation, Encapsulation, StaticSecret) {
        let mut parts = Zeroizing::new([[0; 32]; 3]);
        let shake = Shake256::default().chain(self.0.as_slice());
        shake.finalize_xof_into(parts.as_flattened_mut());
        let [d, z, point] = &*parts;
        let (secret, public) = MlKem768::generate_deterministic(d.into(), z.into());
        (secret, public, StaticSecret::from(*point))
    }
}

impl PublicKey {
    fn parts(&self) -> Result<(Encapsulation, Point), HpkeError> {
        let (lattice, point) = split(&self.0)?;
        let lattice = lattice.try_into().map_err(|_| HpkeError::ValidationError)?;
        Ok((Encapsulation::from_bytes(lattice), point))
    }
}

impl Kem for XWing {
    type PublicKey = PublicKey;
    type PrivateKey = PrivateKey;
    type EncappedKey = EncappedKey;
    type NSecret = U32;
    const KEM_ID: u16 = 0x647a;

    fn sk_to_pk(secret: &PrivateKey) -> PublicKey {
        let (_, lattice, point) = secret.expand();
        PublicKey(joined(&lattice.as_bytes(), &Point::from(&point)))
    }

    /// The draft's derivation. age makes its secret keys at random instead.
    fn derive_keypair(ikm: &[u8]) -> (PrivateKey, PublicKey) {
        let mut seed = Zeroizing::new([0; 32]);
        let shake = Shake256::default().chain(ikm);
        shake.finalize_xof_into(&mut *seed);
        let secret = PrivateKey(seed);
        let public = Self::sk_to_pk(&secret);
        (secret, public)
    }

    fn decap(
        secret: &PrivateKey,
        sender: Option<&PublicKey>,
        encapped: &EncappedKey,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        let (lattice, theirs) = split(&encapped.0)?;
        let lattice = Ciphertext::<MlKem768>::try_from(lattice);
        let (Ok(lattice), None) = (lattice, sender) else {
            return Err(HpkeError::DecapError);
        };
        let (decapsulation, _, point) = secret.expand();
        let shared = decapsulation.decapsulate(&lattice);
        let shared = shared.map_err(|()| HpkeError::DecapError)?;
        let own = Point::from(&point);
        combine(&shared, &point, &theirs, &theirs, &own).ok_or(HpkeError::DecapError)
    }

    fn encap<R: CryptoRng + RngCore>(
        public: &PublicKey,
        sender: Option<(&PrivateKey, &PublicKey)>,
        random: &mut R,
    ) -> Result<(SharedSecret<Self>, EncappedKey), HpkeError> {
        let (encapsulation, theirs) = public.parts()?;
        let (Ok((lattice, shared)), None) = (encapsulation.encapsulate(random), sender) else {
            return Err(HpkeError::EncapError);
        };
        let point = StaticSecret::random_from_rng(random);
        let own = Point::from(&point);
        let secret = combine(&shared, &point, &theirs, &own, &theirs);
        let secret = secret.ok_or(HpkeError::EncapError)?;
        Ok((secret, EncappedKey(joined(&lattice, &own))))
    }
}

/// Hashes the secret of ML-KEM, that of X25519, and the public keys of the ciphertext and of the
/// recipient. Returns `None` if X25519's is the same for every secret key.
fn combine(
    lattice: &[u8],
    own: &StaticSecret,
    theirs: &Point,
    sent: &Point,
    recipient: &Point,
) -> Option<SharedSecret<XWing>> {
    let shared = own.diffie_hellman(theirs);
    let hash = Sha3_256::default()
        .chain(lattice)
        .chain(shared.as_bytes())
        .chain(sent.as_bytes())
        .chain(recipient.as_bytes())
        .chain(LABEL);
    (shared.was_contributory()).then(|| SharedSecret(hash.finalize_fixed()))
}

fn split(bytes: &[u8]) -> Result<(&[u8], Point), HpkeError> {
    let (lattice, point) = bytes.split_last_chunk().ok_or(HpkeError::ValidationError)?;
    Ok((lattice, Point::from(*point)))
}

/// Writes the part of ML-KEM, which is 32 bytes shorter, and that of X25519.
fn joined<const N: usize>(lattice: &[u8], point: &Point) -> [u8; N] {
    let mut bytes = [0; N];
    let parts = lattice.iter().chain(point.as_bytes());
    bytes
        .iter_mut()
        .zip(parts)
        .for_each(|(to, from)| *to = *from);
    bytes
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], HpkeError> {
    let wrong_length = HpkeError::IncorrectInputLength(N, bytes.len());
    bytes.try_into().map_err(|_| wrong_length)
}

macro_rules! serializable {
    ($($type:ident: $len:ty;)*) => {$(
        impl Serializable for $type {
            type OutputSize = $len;

            fn write_exact(&self, to: &mut [u8]) {
                to.copy_from_slice(&self.0[..]);
            }
        }
    )*};
}

serializable! {
    PrivateKey: U32;
    PublicKey: Sum<U1024, U192>;
    EncappedKey: Sum<U1024, U96>;
}

impl Deserializable for PrivateKey {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        exact(bytes).map(|bytes| PrivateKey(Zeroizing::new(bytes)))
    }
}

impl Deserializable for PublicKey {
    /// Refuses what FIPS 203 refuses, and points with which every X25519 secret is the same.
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let key = PublicKey(exact(bytes)?);
        let (lattice, point) = key.parts()?;
        let canonical: [u8; 1216] = joined(&lattice.as_bytes(), &point);
        if canonical == key.0 && has_prime_order_part(&point) {
            Ok(key)
        } else {
            Err(HpkeError::ValidationError)
        }
    }
}

impl Deserializable for EncappedKey {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        exact(bytes).map(EncappedKey)
    }
}
