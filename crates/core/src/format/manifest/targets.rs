//! Which subsequences of a tensor are encrypted, and the two ways in which a manifest writes them: as an
//! array of numbers, or where there are many, as base64 of bytes.

use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bits of a number that a byte of the compact form has.
const BITS: u32 = 7;

/// The encrypted subsequences, as runs: `[skip, take, skip, take, ...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    runs: Vec<u64>,
    form: Form,
}

/// How a manifest writes targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An array of numbers.
    Numbers,
    /// Base64 of the numbers in LEB128 (DWARF 5, section 7.6): 7 bits a byte, the lowest first, with the
    /// highest bit set in all bytes but a number's last.
    Compact,
}

impl Targets {
    /// Targets as runs.
    #[cfg(feature = "protect")]
    pub(crate) fn new(runs: Vec<u64>) -> Targets {
        let form = Form::Numbers;
        Targets { runs, form }
    }

    /// Numbers in the compact form.
    pub(crate) fn compact(numbers: &[u64]) -> String {
        STANDARD.encode(encode(numbers))
    }

    /// The numbers of [`Targets::compact`]; `None` if `text` is not exactly that.
    pub(crate) fn from_compact(text: &str) -> Option<Vec<u64>> {
        decode(&STANDARD.decode(text).ok()?)
    }

    /// The runs.
    #[cfg(feature = "protect")]
    pub(crate) fn into_runs(self) -> Vec<u64> {
        self.runs
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    #[cfg(feature = "protect")]
    pub(crate) fn set_form(&mut self, form: Form) {
        self.form = form;
    }
}

impl Deref for Targets {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.runs
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.form {
            Form::Numbers => self.runs.serialize(serializer),
            Form::Compact => serializer.serialize_str(&Targets::compact(&self.runs)),
        }
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Targets, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Targets;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array of numbers or a string of base64")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Targets, A::Error> {
                let mut runs = Vec::new();
                while let Some(number) = array.next_element()? {
                    runs.push(number);
                }
                let form = Form::Numbers;
                Ok(Targets { runs, form })
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Targets, E> {
                let runs = Targets::from_compact(text);
                let runs = runs.ok_or_else(|| E::custom("targets are not base64 of LEB128"))?;
                let form = Form::Compact;
                Ok(Targets { runs, form })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn encode(runs: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(runs.len() * 2);
    for &number in runs {
        let mut rest = number;
        while rest >> BITS > 0 {
            bytes.push(rest as u8 | 1 << BITS);
            rest >>= BITS;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// The numbers in `bytes`; `None` where a number has no end, is over 2^63 - 1, or is longer than it need be:
/// each list of numbers is written in one way.
fn decode(bytes: &[u8]) -> Option<Vec<u64>> {
    let n = bytes.iter().filter(|&&byte| byte >> BITS == 0).count();
    let mut numbers = Vec::with_capacity(n);
    let (mut number, mut shift) = (0u64, 0);
    for &byte in bytes {
        if shift >= 9 * BITS {
            return None;
        }
        number |= u64::from(byte & !(1 << BITS)) << shift;
        if byte >> BITS == 1 {
            shift += BITS;
            continue;
        }
        if byte == 0 && shift > 0 {
            return None;
        }
        numbers.push(number);
        (number, shift) = (0, 0);
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_one_way() {
        let numbers = [0, 1, 127, 128, 300, 16383, 16384, (1 << 53) - 1];
        let bytes = encode(&numbers);
        // 300 is 10 0101100.
        assert_eq!(bytes[..6], [0, 1, 127, 0x80, 1, 0xAC]);
        assert_eq!(decode(&bytes).unwrap(), numbers);
        assert_eq!(decode(&[]).unwrap(), [0u64; 0]);
        for wrong in [
            &[0x80][..],
            &[0x80, 0],
            &[1, 0xFF],
            &[0xFF; 10],
            &[0xAC, 0x82, 0x00],
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
        let largest = [[0xFF; 8].as_slice(), &[0x7F]].concat();
        assert_eq!(decode(&largest).unwrap(), [(1 << 63) - 1]);
    }

    #[test]
    fn both_forms_are_read_and_kept() {
        let numbers: Targets = serde_json::from_str("[0,1,200,1]").unwrap();
        let compact: Targets = serde_json::from_str("\"AAHIAQE=\"").unwrap();
        assert_eq!((&*numbers, numbers.form()), (&*compact, Form::Numbers));
        assert_eq!(serde_json::to_string(&compact).unwrap(), "\"AAHIAQE=\"");
        assert_eq!(serde_json::to_string(&numbers).unwrap(), "[0,1,200,1]");
        for wrong in [
            "\"AAHIAQE\"",
            "\"AAHIAQF=\"",
            "\"gA==\"",
            "null",
            "{}",
            "[1.0]",
            "[-1]",
            "\"A A=\"",
        ] {
            assert!(serde_json::from_str::<Targets>(wrong).is_err(), "{wrong}");
        }
    }
}
