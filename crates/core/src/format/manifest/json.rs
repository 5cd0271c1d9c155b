//! Reads JSON more strictly than serde derives it: structs only from objects, no member twice.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use onnxseal_onnx::excerpt;
use onnxseal_onnx::proto::tensor_proto::DataType;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::check::MAX_TEXTS;
use super::targets::Targets;
use super::{Draft, ElementType, File, Mode, Operator, OriginalDraft, Tensor};
use crate::format::tiers::Fill;

/// The most claims that a manifest may make.
const MAX_CLAIMS: usize = 1 << 16;

/// A type that is read from an object. serde's own trait would let others read values that nobody checks.
pub(super) trait Members: Sized {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

#[derive(Deserialize)]
#[serde(remote = "File", deny_unknown_fields)]
struct FileMembers {
    path: String,
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(remote = "Operator", deny_unknown_fields)]
struct OperatorMembers {
    op_type: Cow<'static, str>,
    node: String,
}

#[derive(Deserialize)]
#[serde(remote = "Tensor", deny_unknown_fields)]
struct TensorMembers {
    name: String,
    at: String,
    data_type: ElementType,
    dims: Vec<u64>,
    #[serde(deserialize_with = "objects")]
    operators: Vec<Operator>,
    file: u32,
    offset: u64,
    #[serde(default, deserialize_with = "present")]
    stride: Option<u32>,
    unit: u64,
    targets: Targets,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    fill: Fill,
}

macro_rules! members {
    ($($read:ident => $of:ident),*) => {$(
        impl Members for $of {
            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $read::deserialize(deserializer)
            }
        }
    )*};
}

members!(FileMembers => File, OperatorMembers => Operator, TensorMembers => Tensor,
    OriginalDraft => OriginalDraft, Draft => Draft);

/// A struct that is read from an object. A derived struct is read from an array as well.
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

/// Reads an array of objects.
pub(super) fn objects<'de, T: Members, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = Deserialize::deserialize(deserializer)?;
    let mut values: Vec<T> = objects.into_iter().map(|Object(value)| value).collect();
    // Most tensors have one operator, and there is room for four.
    values.shrink_to_fit();
    Ok(values)
}

/// Reads a member that may be absent, but not `null`.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    u32::deserialize(deserializer).map(Some)
}

/// Reads an object that may be absent, but not `null`.
pub(super) fn original<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OriginalDraft>, D::Error> {
    Object::deserialize(deserializer).map(|Object(original)| Some(original))
}

/// Reads an array of strings. The limit holds before memory is taken for more.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Texts;
    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of strings")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = array.next_element()? {
                if texts.len() == MAX_TEXTS {
                    let fault = format_args!("more than {MAX_TEXTS} texts");
                    return Err(A::Error::custom(fault));
                }
                texts.push(text);
            }
            Ok(texts)
        }
    }
    deserializer.deserialize_seq(Texts)
}

/// Reads an object of strings. The limit holds before memory is taken for more.
pub(super) fn claims<'de, D: Deserializer<'de>>(
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

impl<'de> Deserialize<'de> for Mode {
    /// Reads a string. A derived enum is read from `{"mask": null}` as well. `bytes` is not written.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "mask" => Ok(Mode::Mask),
            "shuffle" => Ok(Mode::Shuffle),
            other => Err(D::Error::unknown_variant(other, &["mask", "shuffle"])),
        }
    }
}

impl<'de> Deserialize<'de> for ElementType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = DataType::from_str_name(&name).and_then(ElementType::of);
        found.ok_or_else(|| {
            let name = excerpt(&name);
            D::Error::custom(format_args!("data_type {name:?} has no width"))
        })
    }
}
