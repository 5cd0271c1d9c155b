//! JSON more strictly than serde derives it: structs only from objects, no member twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Mode;

/// A struct that is read from an object; derived structs alone also take arrays.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer
            .deserialize_map(OnlyMap(PhantomData))
            .map(Object)
    }
}

/// Reads an array of objects.
pub(super) fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = Deserialize::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// Reads a member that may be absent but not `null`.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    u32::deserialize(deserializer).map(Some)
}

/// Reads an object of strings.
pub(super) fn without_duplicates<'de, D: Deserializer<'de>>(
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
    use super::super::{File, Manifest, Operator, Tensor};
    use super::*;

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
