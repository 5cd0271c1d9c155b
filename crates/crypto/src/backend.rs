//! AES-256-GCM ([`Gcm`]; NIST SP 800-38D, nonces of 96 bits, tags of 128) and AES-256 in counter
//! mode ([`Ctr`]; NIST SP 800-38A, a block is 12 bytes of a nonce and a counter, u32be), from one of
//! two back ends with the same calls and the same bytes.
//!
//! `Gcm::open` and `Gcm::open_into` leave no plaintext behind if they fail, but may overwrite what
//! they write to. `Ctr::apply` XORs the stream from a counter on, which does not pass 2^32.

#[cfg(feature = "aws-lc")]
mod aws_lc;
mod cipher;
#[cfg(any(not(feature = "aws-lc"), test))]
#[cfg_attr(feature = "aws-lc", allow(dead_code))]
pub(crate) mod rust_crypto;

#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc::{Ctr, Gcm};
pub use cipher::{TAG_BYTES, Tag};
#[cfg(not(feature = "aws-lc"))]
pub(crate) use rust_crypto::{Ctr, Gcm};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::Error;
    use crate::secret::Secret;

    const LENGTHS: [usize; 8] = [0, 1, 15, 16, 17, 100, 4096, 5000];

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| i as u8).collect()
    }

    /// Opens `sealed` in place and into another place, and changes of it in both ways.
    macro_rules! check_opens {
        ($gcm:expr, $sealed:expr, $tag:expr, $text:expr) => {
            let (gcm, sealed, tag, text) = ($gcm, $sealed, $tag, $text);
            let open = |aad, tag: &Tag, first: u8| {
                let mut in_place: Vec<u8> = sealed.clone();
                in_place
                    .first_mut()
                    .into_iter()
                    .for_each(|byte| *byte ^= first);
                let mut elsewhere = vec![0; sealed.len()];
                let into = gcm.open_into([9; 12], aad, &in_place, tag, &mut elsewhere);
                let result = gcm.open([9; 12], aad, &mut in_place, tag);
                (in_place, elsewhere, [result, into])
            };
            let (in_place, elsewhere, results) = open(&b"aad"[..], &tag, 0);
            assert!(results.iter().all(Result::is_ok));
            assert!(in_place == *text && elsewhere == *text);
            let mut wrong = tag;
            wrong.0[15] ^= 1;
            for (aad, tag, first) in [(&b"AAD"[..], tag, 0), (b"aad", wrong, 0), (b"aad", tag, 1)] {
                if first == 1 && text.is_empty() {
                    continue;
                }
                let (in_place, elsewhere, results) = open(aad, &tag, first);
                for result in results {
                    assert!(matches!(result, Err(Error::Unauthentic)));
                }
                let is_left = |place: &[u8]| text.len() > 15 && place[1..] == text[1..];
                assert!(!is_left(&in_place) && !is_left(&elsewhere));
            }
        };
    }

    #[test]
    fn both_back_ends_seal_to_the_same_bytes_and_refuse_what_was_changed() {
        let key = Secret::copy(&[7; 32]);
        let portable = rust_crypto::Gcm::new(&key).unwrap();
        let chosen = Gcm::new(&key).unwrap();
        for text in LENGTHS.map(text) {
            let mut sealed = text.clone();
            let tag = portable.seal([9; 12], b"aad", &mut sealed).unwrap();
            let mut again = text.clone();
            assert_eq!(chosen.seal([9; 12], b"aad", &mut again).unwrap(), tag);
            assert_eq!(again, sealed);
            check_opens!(&portable, &sealed, tag, &text);
            check_opens!(&chosen, &sealed, tag, &text);
        }
    }

    /// AES-256-GCM encrypts in counter mode, from counter 2 on.
    #[test]
    fn counter_mode_is_that_of_gcm() {
        let key = Secret::copy(&[7; 32]);
        for text in LENGTHS.map(text) {
            let mut sealed = text.clone();
            let gcm = rust_crypto::Gcm::new(&key).unwrap();
            gcm.seal([9; 12], b"", &mut sealed).unwrap();
            let mut streamed = text.clone();
            let ctr = rust_crypto::Ctr::new(&key).unwrap();
            ctr.apply([9; 12], 2, &mut streamed).unwrap();
            assert_eq!(streamed, sealed);
            let ctr = Ctr::new(&key).unwrap();
            ctr.apply([9; 12], 2, &mut streamed).unwrap();
            assert_eq!(streamed, text);
        }
    }
}
