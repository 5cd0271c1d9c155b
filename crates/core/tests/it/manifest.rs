//! The rules for manifests: which JSON is one, and what it may say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_core::File;
use onnxseal_core::manifest::{MAX_MANIFEST_BYTES, Manifest, Mode, Tensor};
use serde_json::{Value, json};

/// The limits of `docs/FORMAT.md`.
const MAX_FILES: u64 = 1 << 16;
const MAX_SPANS: u64 = 1 << 24;
const MAX_CLAIMS: usize = 1 << 16;

/// 16 FLOATs, of which the first four are encrypted.
fn tensor(at: &str, file: u32, offset: u64) -> Value {
    json!({
        "name": "w", "at": at, "data_type": "FLOAT", "dims": [4, 4], "operators": [],
        "file": file, "offset": offset, "unit": 4, "targets": ["AAE="],
    })
}

/// The `value` with other `members`.
fn with(mut value: Value, members: Value) -> Value {
    let members = members.as_object().unwrap().clone();
    value.as_object_mut().unwrap().extend(members);
    value
}

fn manifest(tensors: &[Value]) -> Value {
    json!({
        "format": 1, "suite": "AES-256-GCM/HKDF-SHA256", "chunk": 65536, "lock": true, "tiers": [],
        "files": [{"path": "", "bytes": 1000}, {"path": "w", "bytes": 1000}],
        "claims": {}, "tensors": tensors,
    })
}

fn parse(json: &Value) -> Result<Manifest, String> {
    Manifest::parse(&serde_json::to_vec(json).unwrap())
}

/// A manifest of one tensor of `n` subsequences with these `targets`.
fn compact(n: u64, targets: Value) -> Value {
    let members = json!({"dims": [n], "unit": 1, "targets": [targets], "data_type": "UINT8"});
    let files = json!([{"path": "", "bytes": 1u64 << 40}]);
    let tensors = [with(tensor("a", 0, 0), members)];
    with(manifest(&tensors), json!({"files": files}))
}

fn base64_of(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

fn refused(tensors: &[Value]) -> String {
    parse(&manifest(tensors)).unwrap_err()
}

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

#[test]
fn tensors_stand_in_order_and_once() {
    let sound = [
        tensor("a", 0, 8),
        tensor("b", 0, 8),
        tensor("c", 0, 9),
        tensor("d", 1, 0),
    ];
    parse(&manifest(&sound)).unwrap();
    let order = |a, b| refused(&[a, b]);
    assert!(order(tensor("a", 0, 9), tensor("b", 0, 8)).contains("is listed after"));
    assert!(order(tensor("a", 1, 0), tensor("b", 0, 8)).contains("is listed after"));
    assert!(order(tensor("a", 0, 0), tensor("a", 1, 0)).contains("listed twice"));
}

#[test]
fn data_types_have_a_width() {
    let of = |data_type: &str| {
        let members = json!({"data_type": data_type, "unit": 8});
        let read = parse(&manifest(&[with(tensor("a", 0, 0), members)]));
        read.map(|read| read.tensors()[0].data_type.bits())
    };
    for (data_type, bits) in [
        ("FLOAT", 32),
        ("INT2", 2),
        ("FLOAT6E3M2", 6),
        ("COMPLEX128", 128),
    ] {
        assert_eq!(of(data_type), Ok(bits));
    }
    for data_type in ["float", "FLOAT128", "STRING", "UNDEFINED", ""] {
        let why = of(data_type).unwrap_err();
        assert!(why.contains("data_type"), "{data_type}: {why}");
    }
}

#[test]
fn every_element_lies_in_the_file() {
    let at = |offset| manifest(&[tensor("a", 0, offset)]);
    let strided = |offset| manifest(&[with(tensor("a", 0, offset), json!({"stride": 5}))]);
    parse(&at(936)).unwrap();
    assert!(parse(&at(937)).unwrap_err().contains("reach past"));
    parse(&strided(921)).unwrap();
    assert!(parse(&strided(922)).unwrap_err().contains("reach past"));
}

#[test]
fn files_are_limited() {
    let with_files = |n: u64| {
        let external = (1..n).map(|i| json!({"path": i.to_string(), "bytes": 0}));
        let model = json!({"path": "", "bytes": 0});
        let files: Vec<Value> = std::iter::once(model).chain(external).collect();
        parse(&with(manifest(&[]), json!({"files": files})))
    };
    with_files(MAX_FILES).unwrap();
    assert!(with_files(MAX_FILES + 1).unwrap_err().contains("limit"));
}

#[test]
fn bytes_are_limited_before_they_are_parsed() {
    let json = serde_json::to_vec(&manifest(&[])).unwrap();
    let padded = |len: usize| [&json[..], &vec![b' '; len - json.len()]].concat();
    Manifest::parse(&padded(MAX_MANIFEST_BYTES)).unwrap();
    let why = Manifest::parse(&padded(MAX_MANIFEST_BYTES + 1)).unwrap_err();
    assert!(why.contains("limit"), "{why}");
}

/// A unit may be longer than its tensor: what counts is how many elements are encrypted.
#[test]
fn separate_runs_are_limited() {
    let strided = |elements: u64, unit: u64| {
        let members = json!({"dims": [elements], "stride": 5, "unit": unit});
        let files = json!({"files": [{"path": "", "bytes": 1u64 << 40}]});
        let tensor = with(tensor("a", 0, 0), members);
        parse(&with(manifest(&[tensor]), files))
    };
    strided(3, MAX_SPANS * 2).unwrap();
    strided(MAX_SPANS * 2, MAX_SPANS).unwrap();
    let why = strided(MAX_SPANS * 2, MAX_SPANS + 1).unwrap_err();
    assert!(why.contains("limit"), "{why}");
}

#[test]
fn structs_are_objects_and_modes_strings() {
    let of_tensor = |members| manifest(&[with(tensor("a", 0, 0), members)]);
    let of_manifest = |members| with(manifest(&[]), members);
    let operators = json!([{"op_type": "Conv", "node": "c"}]);
    let parsed = parse(&of_tensor(json!({"operators": operators}))).unwrap();
    assert_eq!(parsed.tensors()[0].operators[0].op_type, "Conv");
    for json in [
        of_manifest(json!({"files": [["", 32]]})),
        of_manifest(json!({"files": {"path": "", "bytes": 32}})),
        of_manifest(json!({"tensors": [["w", "a", "FLOAT", [8], [], 0, 0, 4, ["AAE="]]]})),
        of_tensor(json!({"operators": [["Conv", "c"]]})),
        of_tensor(json!({"mode": {"mask": null}})),
        of_tensor(json!({"mode": ["mask"]})),
        json!([1, "AES-256-GCM/HKDF-SHA256", 65536, true, [], [{"path": "", "bytes": 32}], {}, []]),
    ] {
        let error = parse(&json).unwrap_err();
        assert!(
            error.contains("expected") || error.contains("invalid type"),
            "{json}: {error}"
        );
    }
}

#[test]
fn there_is_one_format() {
    for format in [0, 2, u64::MAX] {
        let why = parse(&json!({"format": format, "other": null})).unwrap_err();
        assert!(why.starts_with(&format!("format {format} ")), "{why}");
    }
    for members in [
        json!({"format": "1"}),
        json!({"lock": null}),
        json!({"lock": 1}),
        json!({"tiers": 1}),
        json!({"tiers": null}),
        json!({"original": null}),
        json!({"more": 1}),
    ] {
        let why = parse(&with(manifest(&[]), members.clone())).unwrap_err();
        assert!(
            why.contains("invalid type") || why.contains("unknown"),
            "{members}: {why}"
        );
    }
    for member in [
        "format", "suite", "chunk", "lock", "tiers", "files", "claims", "tensors",
    ] {
        let mut manifest = manifest(&[]);
        manifest.as_object_mut().unwrap().remove(member);
        let why = parse(&manifest).unwrap_err();
        assert!(why.contains(member), "{member}: {why}");
    }
    let original = json!({"bytes": 1000, "paths": ["v"], "texts": ["YQ=="], "edits": [0, 1, 0]});
    let read = with(
        manifest(&[tensor("a", 0, 100)]),
        json!({"original": original}),
    );
    assert!(parse(&read).unwrap().restores_names());
}

/// Three tiers, and a tensor of 16 subsequences.
fn tiered(members: Value) -> Result<Manifest, String> {
    let tensor = with(tensor("a", 0, 0), json!({"unit": 1}));
    let names = json!({"tiers": ["trial", "standard", "full"]});
    parse(&with(manifest(&[with(tensor, members)]), names))
}

#[test]
fn every_tier_has_its_targets() {
    // 0 and 2 in tier 1, 1 and 5 in tier 2.
    let read = tiered(json!({"targets": ["AAEBAQ==", "AQEDAQ==", ""]})).unwrap();
    assert_eq!(&*read.tensors()[0].targets, [0, 3, 2, 1]);
    let mut of_tiers = Vec::new();
    read.tensors()[0].tier_elements(|run, tier| of_tiers.push((run, tier)));
    assert_eq!(
        of_tiers,
        [((0, 1), 1), ((1, 2), 2), ((2, 3), 1), ((5, 6), 2)]
    );
    for (targets, expected) in [
        (json!(["AAE="]), "targets of 1 tiers in a model of 3"),
        (
            json!(["AAE=", "AQE="]),
            "targets of 2 tiers in a model of 3",
        ),
        (
            json!(["AAE=", "", "", ""]),
            "targets of 4 tiers in a model of 3",
        ),
        (json!([]), "targets of 0 tiers"),
        (json!(["AAE=", "AAI=", ""]), "of two tiers are the same"),
        (json!(["", "", ""]), "targets reach subsequence 0"),
        (json!(["AAE=", "EAE=", ""]), "targets reach subsequence 17"),
        (json!("AAE="), "invalid type"),
    ] {
        let why = tiered(json!({"targets": targets})).unwrap_err();
        assert!(why.contains(expected), "{targets}: {why}");
    }
    for members in [json!({"mode": "mask"}), json!({"fill": "00000080"})] {
        let three = json!({"targets": ["AAE=", "", ""]});
        assert!(tiered(with(three, members.clone())).is_ok(), "{members}");
        let why = refused(&[with(tensor("a", 0, 0), members)]);
        assert!(why.contains("of one edition"), "{why}");
    }
}

#[test]
fn targets_keep_the_rules_for_runs() {
    // 2^53 - 1 in LEB128: seven bytes of seven bits, and four bits.
    let largest = [[0xFF; 7].as_slice(), &[0x0F]].concat();
    let runs = |numbers: &[&[u8]]| parse(&compact(1 << 20, base64_of(&numbers.concat())));
    let read = runs(&[&[0], &[1], &[0xAC, 2], &[0xFF, 0xFF, 0x03]]).unwrap();
    assert_eq!(&*read.tensors()[0].targets, [0, 1, 300, 65535]);
    assert_eq!(read.tensors()[0].encrypted_bytes(), 65536);
    for (numbers, expected) in [
        (&[][..], "reach subsequence 0"),
        (&[&[0][..]], "not runs of skip and take"),
        (&[&[0], &[1], &[1]], "not runs of skip and take"),
        (&[&[0], &[0]], "an empty run"),
        (&[&[0], &[1], &[0], &[1]], "an empty run"),
        (&[&[1], &[0x80, 0x80, 0x40]], "reach subsequence"),
        (&[&largest, &[1]], "targets overflow"),
        (
            &[&[0], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]],
            "targets overflow",
        ),
        (
            &[
                &[0],
                &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            ],
            "targets overflow",
        ),
    ] {
        let why = runs(numbers).unwrap_err();
        assert!(why.contains(expected), "{numbers:?}: {why}");
    }
}

#[test]
fn targets_have_one_spelling() {
    let of = |targets: Value| parse(&compact(16, targets));
    of("AAECAQ==".into()).unwrap();
    for bytes in [
        &[0x80, 0, 1][..],                      // 0 in two bytes
        &[0, 0x81, 0],                          // 1 in two bytes
        &[0, 1, 2, 0x81],                       // no end
        &[0x80],                                // nothing but a beginning
        &[[0x81; 9].as_slice(), &[1]].concat(), // ten bytes
    ] {
        let why = of(base64_of(bytes)).unwrap_err();
        assert!(why.contains("LEB128"), "{bytes:?}: {why}");
    }
    for text in [
        "AAECAQ",
        "AAECAQ=",
        "AAECAQ===",
        "AAECAR==",
        "AAEC\nAQ==",
        " AAECAQ==",
        "AAECAQ==AAEC",
        "A-ECAQ==",
        "\u{175}",
    ] {
        let why = of(text.into()).unwrap_err();
        assert!(why.contains("LEB128"), "{text:?}: {why}");
    }
    for other in [json!(null), json!(1), json!({"0": 1}), json!(["AAECAQ=="])] {
        assert!(
            of(other.clone()).unwrap_err().contains("invalid type"),
            "{other}"
        );
    }
}

/// A file of many megabytes shall not make a message of as many.
#[test]
fn messages_quote_the_beginning_of_what_is_long() {
    let long = "\u{7f}".repeat(100_000);
    let long = long.as_str();
    let of_tensor = |members| manifest(&[with(tensor("a", 0, 0), members)]);
    let of_manifest = |members| with(manifest(&[]), members);
    for json in [
        of_tensor(json!({"targets": [long]})),
        of_tensor(json!({long: 1})),
        of_tensor(json!({"mode": long})),
        of_tensor(json!({"data_type": long})),
        of_tensor(json!({"name": long, "targets": []})),
        manifest(&[tensor(long, 0, 0), tensor(long, 0, 0)]),
        of_manifest(
            json!({"files": [{"path": "", "bytes": 32}, {"path": format!("/{long}"), "bytes": 0}]}),
        ),
        of_manifest(json!({"suite": long})),
        of_manifest(json!({"claims": long})),
    ] {
        let why = parse(&json).unwrap_err();
        assert!(why.len() < 4000, "{} bytes", why.len());
    }
}

/// A claim of 8 bytes takes some hundred in memory.
#[test]
fn claims_are_counted_before_they_are_kept() {
    let with_claims = |n: usize| {
        let claims: serde_json::Map<String, Value> =
            (0..n).map(|i| (i.to_string(), "".into())).collect();
        parse(&with(manifest(&[]), json!({"claims": claims})))
    };
    let kept = with_claims(MAX_CLAIMS).unwrap();
    assert_eq!(kept.claims().len(), MAX_CLAIMS);
    let why = with_claims(MAX_CLAIMS + 1).unwrap_err();
    assert!(why.contains("more than 65536 claims"), "{why}");
}

#[test]
fn members_stand_once_and_are_known() {
    let read = |file: &str| {
        let json = serde_json::to_string(&manifest(&[])).unwrap();
        let sound = r#"{"bytes":1000,"path":"w"}"#;
        assert!(json.contains(sound));
        Manifest::parse(json.replace(sound, file).as_bytes())
    };
    let sound = read(r#"{"path":"p","bytes":1}"#).unwrap();
    assert_eq!(sound.files()[1].bytes, 1);
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
    let operator = json!({"op_type": "Conv", "node": "c"});
    let members = json!({"operators": [operator, operator]});
    let read = parse(&manifest(&[with(tensor("a", 0, 0), members)])).unwrap();
    let written = serde_json::to_value(&read.tensors()[0]).unwrap();
    let again = parse(&manifest(&[written])).unwrap();
    let (first, again) = (&read.tensors()[0], &again.tensors()[0]);
    assert_eq!(
        (again.mode, &again.operators),
        (Mode::Bytes, &first.operators)
    );
    assert_eq!(again.operators.len(), 2);
}
