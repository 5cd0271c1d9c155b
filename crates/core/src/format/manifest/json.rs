//! Reads JSON more strictly than serde derives it: structs only from objects, no member twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// The largest integer that every JSON reader keeps exactly.
pub(super) const MAX_INTEGER: u64 = (1 << 53) - 1;

const MAX_TEXTS: usize = 1 << 18;

const MAX_CLAIMS: usize = 1 << 16;

/// A type that is read from an object. Unlike serde's `Deserialize` it is private, so only this
/// code reads unchecked values.
pub(super) trait Members: Sized {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Implements [`Members`] for each `$of` with what serde derives for `$read`.
macro_rules! members {
    ($($read:ident => $of:ident),*) => {$(
        impl Members for $of {
            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $read::deserialize(deserializer)
            }
        }
    )*};
}

pub(super) use members;

/// A struct that is read from an object only; serde's derive would accept an array too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Members> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);
        impl<'de, T: Members> Visitor<'de> for OnlyMap<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::read(MapAccessDeserializer::new(map))
            }
        }
        deserializer
            .deserialize_map(OnlyMap(PhantomData))
            .map(Object)
    }
}

pub(super) fn objects<'de, T: Members, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = Deserialize::deserialize(deserializer)?;
    let mut values: Vec<T> = objects.into_iter().map(|Object(value)| value).collect();
    // Most tensors have one operator, and `Vec` reserves room for four.
    values.shrink_to_fit();
    Ok(values)
}

/// Reads a member that may be absent, but not `null`.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    u32::deserialize(deserializer).map(Some)
}

/// Reads an object that may be absent, but not `null`.
pub(super) fn object<'de, T: Members, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| Some(value))
}

pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    texts_up_to(MAX_TEXTS, deserializer)
}

/// Reads an array of strings. It checks the limit before it allocates more.
pub(super) fn texts_up_to<'de, D: Deserializer<'de>>(
    limit: usize,
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    struct Texts(usize);
    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of strings")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::with_capacity(1);
            while let Some(text) = array.next_element()? {
                if texts.len() == self.0 {
                    let fault = format_args!("more than {} texts", self.0);
                    return Err(A::Error::custom(fault));
                }
                texts.push(text);
            }
            Ok(texts)
        }
    }
    deserializer.deserialize_seq(Texts(limit))
}

/// Writes an element that is not 0: hexadecimal digits.
pub(super) fn write_element<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&base16ct::lower::encode_string(bytes))
}

/// Reads what [`write_element`] writes.
pub(super) fn element<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let bytes = base16ct::lower::decode_vec(String::deserialize(deserializer)?);
    let element = bytes
        .ok()
        .filter(|bytes| bytes.iter().any(|byte| *byte != 0));
    let rule = "fill is not an element other than 0 in hexadecimal digits";
    element.ok_or_else(|| D::Error::custom(rule))
}

/// Reads an object of strings. It checks the limit before it allocates more.
pub(crate) fn claims<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Claims;
    impl<'de> Visitor<'de> for Claims {
        type Value = BTreeMap<String, String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut claims = BTreeMap::new();
            while let Some((key, value)) = map.next_entry()? {
                if claims.len() == MAX_CLAIMS {
                    let fault = format_args!("more than {MAX_CLAIMS} claims");
                    return Err(A::Error::custom(fault));
                }
                if let Some(_first) = claims.insert(key, value) {
                    return Err(A::Error::custom("duplicate claim"));
                }
            }
            Ok(claims)
        }
    }
    deserializer.deserialize_map(Claims)
}
