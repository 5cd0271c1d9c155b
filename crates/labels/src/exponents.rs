//! The authority's side of the group: it derives keys of users, and makes rows.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use curve25519_dalek::ristretto::{RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use onnxseal_crypto::labels::LabelSeed;
use zeroize::Zeroizing;

use crate::error::Result;
use crate::group::{
    Hidden, POINT_BYTES, Place, Row, Secrets, check_value, class_mask, decoded, weight_mask,
};

/// The secret exponents of an authority.
pub(crate) struct Exponents {
    /// `a_0 = 1, a_1 ..= a_k`.
    generators: Zeroizing<Vec<Scalar>>,
    zeta: Zeroizing<Scalar>,
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
