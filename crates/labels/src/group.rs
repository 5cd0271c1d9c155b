//! The group: keys of users, and rows that all keys decrypt alike, or each key differently.
//!
//! Generators `g_j = a_j B` of ristretto255 (RFC 9496), `a_0 = 1`, and `zeta = sum a_j z_j` for
//! each user's `z`. A row of a share has `u_j = r g_j`, so that `sum z_j u_j = r zeta B` for all
//! users; a Fake has `u_j = r_j g_j`, which is another point for each of them. Under the decisional
//! Diffie-Hellman assumption nobody without a key tells one from the other. Source: Boneh and
//! Franklin, *An Efficient Public Key Traitor Tracing Scheme*, CRYPTO 1999.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, MultiscalarMul as _};
use onnxseal_crypto::labels::hash;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The most users that may pool their keys without learning the authority's exponents.
pub const MAX_COLLUSION: u32 = 16;

/// The unit of shares' weights. Each weight is a whole number of them, which a 32-bit float holds.
pub(crate) const UNIT: f64 = 1.0 / (1 << 22) as f64;

/// The least and the greatest size of a weight, in [`UNIT`]s: 1/4, and less than 4.
const SIZES: std::ops::RangeInclusive<u32> = 1 << 20..=(1 << 24) - 1;

/// Bytes of a point, and of a scalar.
pub(crate) const POINT_BYTES: usize = 32;

/// The secrets of one key: `z_0 ..= z_k`.
pub(crate) type Secrets = Zeroizing<Vec<Scalar>>;

/// The secret contents of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) class: u32,
    /// The weight of the share, in [`UNIT`]s.
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

/// Decodes the points of a row.
pub(crate) fn decoded(points: &[[u8; POINT_BYTES]]) -> Result<Vec<RistrettoPoint>> {
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
pub(crate) fn class_mask(place: Place<'_>, secret: &[u8; POINT_BYTES]) -> u64 {
    let hash = hash("class", &[place.digest, &place.row.to_le_bytes(), secret]);
    let first = hash.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(first) % u64::from(place.classes.max(1))
}

/// The first 4 bytes of `hash(weight, D ‖ u32le(row) ‖ S)`, little-endian.
pub(crate) fn weight_mask(place: Place<'_>, secret: &[u8; POINT_BYTES]) -> u32 {
    let hash = hash("weight", &[place.digest, &place.row.to_le_bytes(), secret]);
    u32::from_le_bytes(hash.first_chunk().copied().unwrap_or_default())
}

/// The first 16 bytes of `hash(check, D ‖ S)`.
pub(crate) fn check_value(digest: &[u8; 32], secret: &[u8; POINT_BYTES]) -> [u8; 16] {
    let hash = hash("check", &[digest, secret]);
    hash.first_chunk().copied().unwrap_or_default()
}

/// Whether a share may have this weight.
pub(crate) fn is_weight(weight: i32) -> bool {
    SIZES.contains(&weight.unsigned_abs())
}
