//! JSON more strictly than serde derives it: structs only from objects, no member twice.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::check::MAX_TEXTS;
use super::{Draft, File, Mode, Operator, OriginalDraft, Tensor};

/// The most claims that a manifest may make.
const MAX_CLAIMS: usize = 1 << 16;

/// What is read from an object. No trait of serde's: others shall not make what nobody checks.
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
    op_type: String,
    node: String,
}

#[derive(Deserialize)]
#[serde(remote = "Tensor", deny_unknown_fields)]
struct TensorMembers {
    name: String,
    at: String,
    data_type: Cow<'static, str>,
    dims: Vec<u64>,
    #[serde(deserialize_with = "objects")]
    operators: Vec<Operator>,
    mode: Mode,
    tier: u8,
    file: u32,
    offset: u64,
    element_bits: u32,
    #[serde(default, deserialize_with = "present")]
    stride: Option<u32>,
    unit: u64,
    n: u64,
    targets: Vec<u64>,
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

/// A struct that is read from an object; derived structs alone also take arrays.
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
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// Reads a member that may be absent but not `null`.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    u32::deserialize(deserializer).map(Some)
}

/// The same of an object.
pub(super) fn original<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OriginalDraft>, D::Error> {
    Object::deserialize(deserializer).map(|Object(original)| Some(original))
}

/// Reads an array of strings: no more of them than memory is to be taken for.
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

/// Reads an object of strings: no more of them than memory is to be taken for.
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
    /// Reads a string; a derived enum alone also takes `{"bytes": null}`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "bytes" => Ok(Mode::Bytes),
            other => Err(D::Error::unknown_variant(other, &["bytes"])),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Manifest;
    use super::*;

    /// Compiles only as long as nobody else can read what was not checked: there is one way to take
    /// `none` of a type that is no `Deserialize`, and there are two of one that is.
    #[test]
    fn nobody_reads_what_is_not_checked() {
        trait Read<Way> {
            fn none() {}
        }
        struct Derived;
        impl<T: ?Sized> Read<()> for T {}
        impl<T: serde::de::DeserializeOwned> Read<Derived> for T {}
        <Manifest as Read<_>>::none();
        <Tensor as Read<_>>::none();
        <File as Read<_>>::none();
    }

    const OPERATOR: &str = r#"{"op_type":"Conv","node":"c"}"#;

    fn tensor(operators: &str, mode: &str) -> String {
        format!(
            r#"{{"name":"w","at":"a","data_type":"FLOAT","dims":[8],"operators":{operators},"mode":{mode},
                "tier":1,"file":0,"offset":0,"element_bits":32,"unit":2,"n":4,"targets":[0,1]}}"#
        )
    }

    fn manifest(files: &str, tensors: &str) -> String {
        format!(
            r#"{{"format":1,"suite":"AES-256-GCM/HKDF-SHA256","chunk":65536,"tiers":1,"files":{files},
                "claims":{{}},"tensors":{tensors}}}"#
        )
    }

    fn parse(json: &str) -> Result<Manifest, String> {
        Manifest::parse(json.as_bytes())
    }

    #[test]
    fn structs_are_objects_and_modes_strings() {
        let file = r#"[{"path":"","bytes":32}]"#;
        let sound = tensor(&format!("[{OPERATOR}]"), r#""bytes""#);
        let parsed = parse(&manifest(file, &format!("[{sound}]"))).unwrap();
        assert_eq!(parsed.tensors[0].operators[0].op_type, "Conv");
        let of_tensor = |tensor: String| manifest(file, &format!("[{tensor}]"));
        for (why, json) in [
            ("files", manifest(r#"[["",32]]"#, "[]")),
            (
                "files as an object",
                manifest(r#"{"path":"","bytes":32}"#, "[]"),
            ),
            (
                "operators",
                of_tensor(tensor(r#"[["Conv","c"]]"#, r#""bytes""#)),
            ),
            ("mode", of_tensor(tensor("[]", r#"{"bytes":null}"#))),
            ("mode as an array", of_tensor(tensor("[]", r#"["bytes"]"#))),
            (
                "tensors",
                manifest(
                    file,
                    r#"[["w","a","FLOAT",[8],[],"bytes",1,0,0,32,4,2,4,[0,1]]]"#,
                ),
            ),
            (
                "manifest",
                r#"[1,"AES-256-GCM/HKDF-SHA256",65536,1,[{"path":"","bytes":32}],{},[]]"#.into(),
            ),
        ] {
            let error = parse(&json).unwrap_err();
            assert!(
                error.contains("expected") || error.contains("invalid type"),
                "{why}: {error}"
            );
        }
    }

    /// A file of many megabytes shall not make a message of as many.
    #[test]
    fn messages_quote_the_beginning_of_what_is_long() {
        let long = "\u{7f}".repeat(100_000);
        let file = r#"[{"path":"","bytes":32}]"#;
        let quoted = format!("\"{long}\"");
        let sound = tensor("[]", r#""bytes""#);
        let of = |old: &str, new: &str| {
            let tensor = sound.replacen(old, new, 1);
            manifest(file, &format!("[{tensor}]"))
        };
        let whole = manifest(file, "[]");
        for json in [
            of(r#""tier":1"#, &format!(r#""tier":{quoted}"#)),
            of(r#""tier":1"#, &format!(r#""tier":1,{quoted}:1"#)),
            of(r#""bytes""#, &quoted),
            of(r#""FLOAT""#, &quoted),
            of(r#""name":"w""#, &format!(r#""name":{quoted}"#)).replace("[0,1]", "[]"),
            manifest(file, &format!("[{s},{s}]", s = of_at(&sound, &long))),
            manifest(
                &file.replace(']', &format!(r#",{{"path":"/{long}","bytes":0}}]"#)),
                "[]",
            ),
            whole.replace("AES-256-GCM/HKDF-SHA256", &long),
            whole.replace(r#""claims":{}"#, &format!(r#""claims":{quoted}"#)),
        ] {
            let why = parse(&json).unwrap_err();
            assert!(why.len() < 4000, "{} bytes", why.len());
        }
    }

    fn of_at(tensor: &str, at: &str) -> String {
        tensor.replacen(r#""at":"a""#, &format!(r#""at":"{at}""#), 1)
    }

    /// A claim of 8 bytes takes some hundred in memory.
    #[test]
    fn claims_are_counted_before_they_are_kept() {
        let with = |n: usize| {
            let claims: Vec<String> = (0..n).map(|i| format!(r#""{i}":"""#)).collect();
            let claims = format!(r#""claims":{{{}}}"#, claims.join(","));
            let whole = manifest(r#"[{"path":"","bytes":32}]"#, "[]");
            parse(&whole.replace(r#""claims":{}"#, &claims))
        };
        assert_eq!(with(MAX_CLAIMS).unwrap().claims.len(), MAX_CLAIMS);
        let why = with(MAX_CLAIMS + 1).unwrap_err();
        assert!(why.contains("more than 65536 claims"), "{why}");
    }

    #[test]
    fn members_stand_once_and_are_known() {
        let read = |json: &str| serde_json::from_str::<Object<File>>(json).map(|object| object.0);
        assert_eq!(read(r#"{"path":"p","bytes":1}"#).unwrap().bytes, 1);
        for json in [
            r#"{"path":"p","bytes":1,"path":"p"}"#,
            r#"{"path":"p","bytes":1,"more":1}"#,
            r#"{"path":"p"}"#,
            r#"{"0":"p","1":1}"#,
            r#"{"path":"p","bytes":1.0}"#,
            r#"{"path":"p","bytes":1}]"#,
            "null",
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let operators = format!("[{OPERATOR},{OPERATOR}]");
        let Object(read) =
            serde_json::from_str::<Object<Tensor>>(&tensor(&operators, r#""bytes""#)).unwrap();
        let written = serde_json::to_string(&read).unwrap();
        let Object(again) = serde_json::from_str::<Object<Tensor>>(&written).unwrap();
        assert_eq!(again.mode, Mode::Bytes);
        let Object(operator) = serde_json::from_str::<Object<Operator>>(OPERATOR).unwrap();
        assert_eq!(again.operators, [operator.clone(), operator]);
    }
}
