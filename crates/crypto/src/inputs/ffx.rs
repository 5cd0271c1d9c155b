//! Format-preserving encryption of three digits, for the keyed transforms of images: the FFX mode
//! with HMAC-SHA1 as its round function.
//!
//! Source: Bellare, Rogaway, Spies, The FFX Mode of Operation for Format-Preserving Encryption
//! (2010), as the Python package `pyffx` computes it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use zeroize::Zeroizing;

use crate::error::Error;

const ROUNDS: u32 = 10;

/// Computes FFX of 0 to 255 under `password`, as numbers of three digits.
pub(super) fn ffx_table(password: &[u8]) -> Result<Zeroizing<[u16; 256]>, Error> {
    let hmac = Hmac::<Sha1>::new_from_slice(password).map_err(|_| Error::Backend)?;
    let mut table = Zeroizing::new([0; 256]);
    for (number, q) in table.iter_mut().zip(0u32..) {
        let digits = encrypt(&hmac, &[q / 100, q / 10 % 10, q % 10]);
        *number = digits.iter().fold(0, |sum, digit| 10 * sum + *digit as u16);
    }
    Ok(table)
}

/// Ten rounds over `a`, the first half of the digits (the shorter one), and `b`, the rest:
/// `(a, b) = (b, a + F(i, b))`, digit by digit modulo 10.
fn encrypt(hmac: &Hmac<Sha1>, digits: &[u32]) -> Vec<u32> {
    let (a, b) = digits.split_at(digits.len() / 2);
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    for i in 0..ROUNDS {
        let round = round(hmac, i, &b, a.len());
        let sum = a.iter().zip(round).map(|(a, f)| (a + f) % 10).collect();
        (a, b) = (b, sum);
    }
    a.append(&mut b);
    a
}

/// `F(i, b)`: HMAC-SHA1 of `u32le(i) ‖ u32le(digit) ... ‖ u32le(counter)` as a big-endian integer;
/// its last `n_digits` digits, the last one first. (A digest has 48 digits, so the counter stays
/// 0.)
fn round(hmac: &Hmac<Sha1>, i: u32, b: &[u32], n_digits: usize) -> Vec<u32> {
    let words = [&[i], b, &[0]].concat();
    let message: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut digest = hmac.clone().chain_update(message).finalize().into_bytes();
    let last_digit = |_| {
        // Long division by 10, from the most significant byte on.
        digest.iter_mut().fold(0, |rest, byte| {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 10) as u8;
            value % 10
        })
    };
    (0..n_digits).map(last_digit).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pyffx() {
        let hmac = Hmac::<Sha1>::new_from_slice(b"secret-key").unwrap();
        assert_eq!(encrypt(&hmac, &[1, 2, 3, 4]), [6, 1, 0, 3]);
        let table = ffx_table(b"password").unwrap();
        let first = [
            355, 522, 858, 133, 916, 326, 747, 930, 444, 760, 203, 17, 565, 473, 31, 756,
        ];
        assert_eq!(table[..16], first);
        assert_eq!(table[255], 757);
        assert_eq!(table.iter().max(), Some(&996));
    }
}
