//! The group: keys of users, and rows that all keys decrypt alike, or each key differently.
//!
//! Generators `g_j = a_j B` of ristretto255 (RFC 9496), `a_0 = 1`, and `zeta = sum a_j z_j` for
//! each user's `z`. A row of a share has `u_j = r g_j`, so that `sum z_j u_j = r zeta B` for all
//! users; a Fake has `u_j = r_j g_j`, which is another point for each of them. Under the decisional
//! Diffie-Hellman assumption nobody without a key tells one from the other. Source: Boneh and
//! Franklin, *An Efficient Public Key Traitor Tracing Scheme*, CRYPTO 1999.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, MultiscalarMul as _};
use onnxseal_crypto::labels::{LabelSeed, hash};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The most users that may pool their keys without learning the authority's exponents.
pub const MAX_COLLUSION: u32 = 16;

/// Bytes of a point, and of a scalar.
pub(crate) const POINT_BYTES: usize = 32;

/// The secrets of one key: `z_0 ..= z_k`.
pub(crate) type Secrets = Zeroizing<Vec<Scalar>>;

/// The secret exponents of an authority.
pub(crate) struct Exponents {
    /// `a_0 = 1, a_1 ..= a_k`.
    generators: Zeroizing<Vec<Scalar>>,
    zeta: Zeroizing<Scalar>,
}

/// The secret contents of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) class: u32,
    /// The weight of the share, in [`crate::shares::UNIT`]s.
    pub(crate) weight: i32,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// `u_0 ..= u_k`, encoded.
    pub(crate) points: Vec<[u8; POINT_BYTES]>,
    /// The class, masked.
    pub(crate) pad: u32,
    /// The weight, masked.
    pub(crate) weight: u32,
}

/// The place to which a row is bound.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) digest: &'a [u8; 32],
    pub(crate) row: u32,
    pub(crate) classes: u32,
}

/// Random scalars of one row, from a stream of its own, so that any thread can make it.
pub(crate) struct Randomness(ChaCha20Rng);

impl Randomness {
    pub(crate) fn new(seed: &[u8; 32], row: u64) -> Randomness {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        rng.set_stream(row);
        Randomness(rng)
    }

    pub(crate) fn scalar(&mut self) -> Zeroizing<Scalar> {
        loop {
            let mut wide = Zeroizing::new([0; 64]);
            self.0.fill_bytes(&mut *wide);
            let scalar = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide));
            if *scalar != Scalar::ZERO {
                return scalar;
            }
        }
    }

    fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn below(&mut self, n: u32) -> u32 {
        (self.0.next_u64() % u64::from(n.max(1))) as u32
    }
}

impl Exponents {
    pub(crate) fn new(seed: &LabelSeed, collusion: u32) -> Result<Exponents> {
        let mut generators = Zeroizing::new(vec![Scalar::ONE]);
        for j in 1..=collusion {
            generators.push(scalar(seed, "generator", &j.to_be_bytes())?);
        }
        Ok(Exponents {
            generators,
            zeta: Zeroizing::new(scalar(seed, "zeta", b"")?),
        })
    }

    /// Returns the generators, encoded.
    pub(crate) fn points(&self) -> Vec<[u8; POINT_BYTES]> {
        let points = self.generators.iter().map(RistrettoPoint::mul_base);
        points.map(|point| point.compress().to_bytes()).collect()
    }

    /// Derives the secrets of the user called `name`.
    pub(crate) fn user(&self, seed: &LabelSeed, name: &str) -> Result<Secrets> {
        let mut secrets = Zeroizing::new(vec![*self.zeta]);
        for (j, a) in (0u32..).zip(self.generators.iter()).skip(1) {
            let z = scalar(seed, "user", &[&j.to_be_bytes(), name.as_bytes()].concat())?;
            if let Some(first) = secrets.first_mut() {
                *first -= a * z;
            }
            secrets.push(z);
        }
        Ok(secrets)
    }

    /// Makes a row that all keys decrypt alike, from a random `r`.
    pub(crate) fn share(&self, place: Place<'_>, hidden: Hidden, r: &Scalar) -> Row {
        let (points, secret) = self.pair(r);
        let class_mask = class_mask(place, &secret);
        let classes = u64::from(place.classes);
        Row {
            points,
            pad: ((u64::from(hidden.class) + classes - class_mask) % classes.max(1)) as u32,
            weight: hidden
                .weight
                .cast_unsigned()
                .wrapping_add(weight_mask(place, &secret)),
        }
    }

    /// Makes a row that each key decrypts to another class.
    pub(crate) fn fake(&self, place: Place<'_>, random: &mut Randomness) -> Row {
        let points = self.generators.iter().map(|a| {
            let r = random.scalar();
            RistrettoPoint::mul_base(&(a * *r)).compress().to_bytes()
        });
        let points = points.collect();
        Row {
            points,
            pad: random.below(place.classes),
            weight: random.word(),
        }
    }

    /// Makes points from a random `r`, and the value by which a key recognises that it is right.
    pub(crate) fn check(
        &self,
        digest: &[u8; 32],
        r: &Scalar,
    ) -> (Vec<[u8; POINT_BYTES]>, [u8; 16]) {
        let (points, secret) = self.pair(r);
        (points, check_value(digest, &secret))
    }

    /// Prepares the points of a row for the keys of many users.
    pub(crate) fn prepare(&self, points: &[[u8; POINT_BYTES]]) -> Result<Prepared> {
        let points = decoded(points)?;
        let first = points.first().copied().unwrap_or_default();
        let pairs = points.iter().zip(self.generators.iter()).skip(1);
        Ok(Prepared {
            first: *self.zeta * first,
            others: pairs
                .map(|(u, a)| RistrettoBasepointTable::create(&(u - a * first)))
                .collect(),
        })
    }

    /// `u_j = r g_j`, and `S = r zeta B`, encoded.
    fn pair(&self, r: &Scalar) -> (Vec<[u8; POINT_BYTES]>, [u8; POINT_BYTES]) {
        let points = self
            .generators
            .iter()
            .map(|a| RistrettoPoint::mul_base(&(a * r)));
        let points = points.map(|point| point.compress().to_bytes()).collect();
        let secret = RistrettoPoint::mul_base(&(*self.zeta * r));
        (points, secret.compress().to_bytes())
    }
}

fn scalar(seed: &LabelSeed, purpose: &str, context: &[u8]) -> Result<Scalar> {
    let wide = seed.scalar(purpose, context)?;
    Ok(Scalar::from_bytes_mod_order_wide(&wide))
}

/// Decodes the points of a row.
fn decoded(points: &[[u8; POINT_BYTES]]) -> Result<Vec<RistrettoPoint>> {
    let decoded = points.iter().map(|point| {
        let point = CompressedRistretto(*point).decompress();
        let point = point.filter(|point| !point.is_identity());
        point.ok_or(Error::MalformedTable {
            reason: "a point is not one of the group",
        })
    });
    decoded.collect()
}

/// `S = sum z_j u_j`, encoded.
pub(crate) fn shared(
    secrets: &[Scalar],
    points: &[[u8; POINT_BYTES]],
) -> Result<[u8; POINT_BYTES]> {
    Ok(RistrettoPoint::multiscalar_mul(secrets, &decoded(points)?)
        .compress()
        .to_bytes())
}

/// A row that its authority opens with the keys of many users:
/// `S = zeta u_0 + sum z_j (u_j - a_j u_0)` over j from 1. The points are common to all users, and
/// have tables.
pub(crate) struct Prepared {
    first: RistrettoPoint,
    others: Vec<RistrettoBasepointTable>,
}

impl Prepared {
    /// Computes `S` of one key, encoded.
    pub(crate) fn shared(&self, secrets: &[Scalar]) -> [u8; POINT_BYTES] {
        let pairs = self.others.iter().zip(secrets.iter().skip(1));
        let sum = pairs.fold(self.first, |sum, (table, z)| sum + table * z);
        sum.compress().to_bytes()
    }
}

/// Opens a row with a key. The weight of a Fake is meaningless.
pub(crate) fn open(place: Place<'_>, row: &Row, secrets: &[Scalar]) -> Result<Hidden> {
    Ok(reveal(place, row, &shared(secrets, &row.points)?))
}

/// Opens a row with its `S`.
pub(crate) fn reveal(place: Place<'_>, row: &Row, secret: &[u8; POINT_BYTES]) -> Hidden {
    let sum = u64::from(row.pad) + class_mask(place, secret);
    Hidden {
        class: (sum % u64::from(place.classes.max(1))) as u32,
        weight: row
            .weight
            .wrapping_sub(weight_mask(place, secret))
            .cast_signed(),
    }
}

/// `u64le(hash(class, D ‖ u32le(row) ‖ S)) mod K`
fn class_mask(place: Place<'_>, secret: &[u8; POINT_BYTES]) -> u64 {
    let hash = hash("class", &[place.digest, &place.row.to_le_bytes(), secret]);
    let first = hash.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(first) % u64::from(place.classes.max(1))
}

/// The first 4 bytes of `hash(weight, D ‖ u32le(row) ‖ S)`, little-endian.
fn weight_mask(place: Place<'_>, secret: &[u8; POINT_BYTES]) -> u32 {
    let hash = hash("weight", &[place.digest, &place.row.to_le_bytes(), secret]);
    u32::from_le_bytes(hash.first_chunk().copied().unwrap_or_default())
}

/// The first 16 bytes of `hash(check, D ‖ S)`.
pub(crate) fn check_value(digest: &[u8; 32], secret: &[u8; POINT_BYTES]) -> [u8; 16] {
    let hash = hash("check", &[digest, secret]);
    hash.first_chunk().copied().unwrap_or_default()
}
