//! The tail: one encoding, one order, one place.

use onnxseal_onnx::Error;
use onnxseal_onnx::proto::ModelProto;
use onnxseal_onnx::tail::{self, KEYS, LOCK, MAC, MANIFEST, SIG, TAGS};
use onnxseal_testkit::build::entry;
use onnxseal_testkit::{corrupt, samples, wire};
use prost::Message;

use crate::support::{located, slice};

const KEY: &str = KEYS[0];

const ENTRIES: [(&str, &str); 4] = [
    (MANIFEST, "{}"),
    (TAGS, ""),
    (MAC, "bWFj"),
    (KEY, "-----BEGIN\nEND-----\n"),
];

fn encoded(entries: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| (*key, value.as_bytes()))
        .collect();
    tail::encode(&entries, false)
}

fn protected(entries: &[(&str, &str)]) -> Vec<u8> {
    corrupt::appended(&samples::gemm(), &encoded(entries))
}

/// Why a file is refused: the offset, what was expected and what found.
fn misfit(bytes: &[u8]) -> (u64, String, String) {
    match tail::split(bytes) {
        Err(Error::Malformed { at, fault }) => {
            let fault = fault.to_string();
            let rest = fault.strip_prefix("changed since it was protected: the metadata has ");
            let rest = rest.and_then(|rest| rest.strip_suffix(" must stand"));
            let (found, expected) = rest.and_then(|rest| rest.split_once(" where ")).unwrap();
            (at.offset, expected.to_owned(), found.to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_encoding_is_that_of_protobuf() {
    // Lengths on both sides of those where a varint grows.
    let sizes = [
        0,
        1,
        107,
        108,
        109,
        110,
        127,
        128,
        16_360,
        16_361,
        16_383,
        16_384,
        1 << 21,
    ];
    for size in sizes {
        let value = "v".repeat(size);
        let entries = [(MANIFEST, value.as_str()), (TAGS, "x")];
        let model = ModelProto {
            metadata_props: entries
                .iter()
                .map(|(key, value)| entry(key, value))
                .collect(),
            ..ModelProto::default()
        };
        assert_eq!(encoded(&entries), model.encode_to_vec(), "{size}");
    }
}

#[test]
fn the_encoding_is_that_of_the_format() {
    let expected = b"\x72\x17\x0a\x11onnxseal.manifest\x12\x02{}";
    assert_eq!(encoded(&[(MANIFEST, "{}")]), expected);
}

#[test]
fn a_tail_splits_from_its_model() {
    let model = samples::gemm();
    let bytes = protected(&ENTRIES);
    let found = tail::split(&bytes).unwrap().unwrap();
    assert_eq!(found.start, model.len() as u64);
    assert_eq!(&bytes[..found.start as usize], model);
    let pairs: Vec<_> = found
        .entries
        .iter()
        .map(|entry| (entry.key, entry.value))
        .collect();
    assert_eq!(pairs, ENTRIES);
    for entry in &found.entries {
        assert_eq!(
            slice(&bytes, entry.field),
            encoded(&[(entry.key, entry.value)])
        );
    }
    assert_eq!((found.value(MAC), found.value(SIG)), (Some("bWFj"), None));
    // And it is still a model.
    assert_eq!(located(&bytes).metadata_props.len(), 4);
}

#[test]
fn a_signature_stands_before_the_keys() {
    let [manifest, tags, mac, key] = ENTRIES;
    let sig = (SIG, "s");
    let bytes = protected(&[manifest, tags, mac, sig, key]);
    assert_eq!(tail::split(&bytes).unwrap().unwrap().value(SIG), Some("s"));
    let (_, expected, found) = misfit(&protected(&[manifest, tags, mac, key, sig]));
    assert_eq!(
        (expected.as_str(), found.as_str()),
        ("the key of a tier", SIG)
    );
    let (_, expected, found) = misfit(&protected(&[manifest, tags, mac, sig, sig, key]));
    assert_eq!(
        (expected.as_str(), found.as_str()),
        ("the key of a tier", SIG)
    );
    let (_, expected, found) = misfit(&protected(&[manifest, tags, mac, sig]));
    assert_eq!(
        (expected.as_str(), found.as_str()),
        ("the key of a tier", "the end of the file")
    );
}

#[test]
fn keys_of_tiers_ascend() {
    let [manifest, tags, mac, _] = ENTRIES;
    let with = |keys: &[&'static str]| {
        let keys = keys.iter().map(|key| (*key, "k"));
        protected(
            &[manifest, tags, mac]
                .into_iter()
                .chain(keys)
                .collect::<Vec<_>>(),
        )
    };
    for keys in [&KEYS[..], &KEYS[15..], &[KEYS[1], KEYS[9], KEYS[10]]] {
        let bytes = with(keys);
        let found = tail::split(&bytes).unwrap().unwrap();
        let found: Vec<&str> = found
            .entries
            .iter()
            .skip(3)
            .map(|entry| entry.key)
            .collect();
        assert_eq!(found, keys);
    }
    for keys in [
        &[KEYS[1], KEYS[0]][..],
        &[KEYS[9], KEYS[1]],
        &[KEYS[2], KEYS[2]],
        &["onnxseal.key"],
        &["onnxseal.key.0"],
        &["onnxseal.key.01"],
        &["onnxseal.key.17"],
        &[],
    ] {
        misfit(&with(keys));
    }
    let (_, expected, _) = misfit(&with(&[KEYS[15], KEYS[15]]));
    assert_eq!(expected, "the end of the file");
}

#[test]
fn a_lock_stands_after_the_mac_and_is_these_bytes() {
    let (before, after) = ENTRIES.split_at(3);
    let with = |lock: &[u8]| [&protected(before), lock, &encoded(after)].concat();
    let bytes = with(LOCK);
    let found = tail::split(&bytes).unwrap().unwrap();
    assert!(found.is_locked);
    assert_eq!(found.entries.len(), 4);
    assert!(!tail::split(&with(&[])).unwrap().unwrap().is_locked);
    // What a program reads: the same graph, with one node more.
    let model = ModelProto::decode(&bytes[..]).unwrap();
    let original = ModelProto::decode(&samples::gemm()[..]).unwrap();
    let (graph, mut expected) = (model.graph.unwrap(), original.graph.unwrap());
    let lock = graph.node.last().unwrap();
    assert_eq!(lock.op_type(), "ProtectedModel_OpenItWithOnnxseal");
    assert_eq!(
        (lock.domain(), &lock.output[..]),
        ("onnxseal", &["onnxseal.locked".to_owned()][..])
    );
    let opset = model.opset_import.last().unwrap();
    assert_eq!((opset.domain(), opset.version()), ("onnxseal", 1));
    expected.node.push(lock.clone());
    expected.output.push(graph.output.last().unwrap().clone());
    assert_eq!(graph.output.last().unwrap().name(), lock.output[0]);
    assert_eq!(graph, expected);

    misfit(&with(&[LOCK, LOCK].concat()));
    for i in 0..LOCK.len() {
        assert!(
            tail::split(&with(&corrupt::flipped(LOCK, i))).is_err(),
            "byte {i}"
        );
        assert!(
            tail::split(&with(&LOCK[..i])).is_ok() == (i == 0),
            "cut to {i}"
        );
    }
    // Anywhere else it is another field.
    for at in [1, 2, 4] {
        let (before, after) = ENTRIES.split_at(at);
        misfit(&[&protected(before), LOCK, &encoded(after)].concat());
    }
    let sig = [(SIG, "s")];
    misfit(&[&protected(before), &encoded(&sig), LOCK, &encoded(after)].concat());
    let signed = [&protected(before), LOCK, &encoded(&sig), &encoded(after)].concat();
    assert!(tail::split(&signed).unwrap().unwrap().is_locked);
}

#[test]
fn models_without_a_tail_have_none() {
    for sample in samples::all() {
        assert_eq!(tail::split(&sample.model).unwrap(), None);
    }
    let other = entry("onnxseal", "x").encode_to_vec();
    let bytes = corrupt::appended(&samples::gemm(), &wire::field(14, &other));
    assert_eq!(tail::split(&bytes).unwrap(), None);
    assert_eq!(tail::split(&[]).unwrap(), None);
}

#[test]
fn every_order_but_one_is_refused() {
    for (a, first) in ENTRIES.into_iter().enumerate() {
        for (b, second) in ENTRIES.into_iter().enumerate().filter(|(b, _)| *b != a) {
            let mut entries = ENTRIES;
            (entries[a], entries[b]) = (second, first);
            misfit(&protected(&entries));
        }
        let mut missing = ENTRIES.to_vec();
        let (key, _) = missing.remove(a);
        let (_, expected, _) = misfit(&protected(&missing));
        let lacks = if key == KEY { "the key of a tier" } else { key };
        assert_eq!(expected, lacks);
        let mut twice = ENTRIES.to_vec();
        twice.insert(a, first);
        misfit(&protected(&twice));
    }
    misfit(&protected(&[("onnxseal.other", ""), ENTRIES[0]]));
    misfit(&protected(&[("onnxseal.", "")]));
}

#[test]
fn every_truncation_of_the_tail_is_refused() {
    let bytes = protected(&ENTRIES);
    let start = samples::gemm().len();
    for len in start + 1..bytes.len() {
        assert!(tail::split(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn nothing_stands_between_or_after_the_entries() {
    let [first, rest @ ..] = ENTRIES;
    let author = entry("author", "somebody").encode_to_vec();
    for other in [
        wire::varint_field(1000, 1),
        wire::field(14, &author),
        wire::field(20, &[]),
        wire::field(8, &[]),
    ] {
        let after = corrupt::appended(&protected(&ENTRIES), &other);
        let (offset, ..) = misfit(&after);
        assert_eq!(offset, protected(&ENTRIES).len() as u64);
        let between = [protected(&[first]), other.clone(), encoded(&rest)].concat();
        let (offset, expected, _) = misfit(&between);
        assert_eq!(
            (offset, expected),
            (
                protected(&[first]).len() as u64,
                "the next entry or the end".to_owned()
            )
        );
        // Before the tail it belongs to the model.
        let before = [samples::gemm(), other.clone(), encoded(&ENTRIES)].concat();
        let start = samples::gemm().len() + other.len();
        assert_eq!(tail::split(&before).unwrap().unwrap().start, start as u64);
    }
}

#[test]
fn a_second_tail_or_a_key_before_it_is_refused() {
    let once = protected(&ENTRIES);
    misfit(&corrupt::appended(&once, &encoded(&ENTRIES)));
    misfit(&corrupt::appended(&once, &encoded(&ENTRIES[..1])));
    let early = [samples::gemm(), encoded(&[(KEY, "x")]), encoded(&ENTRIES)].concat();
    misfit(&early);
}

#[test]
fn entries_have_one_encoding() {
    let key = wire::field(1, MANIFEST.as_bytes());
    let value = wire::field(2, b"{}");
    // A length in two bytes where one would do.
    let long_length = [&[0x0a, 0x91, 0x00], MANIFEST.as_bytes()].concat();
    let long_tag = [&[0x92, 0x00, 0x02][..], b"{}"].concat();
    for body in [
        [value.clone(), key.clone()].concat(),
        [key.clone(), value.clone(), wire::varint_field(3, 1)].concat(),
        [wire::varint_field(3, 1), key.clone(), value.clone()].concat(),
        [long_length, value.clone()].concat(),
        [key.clone(), long_tag].concat(),
        // No value is another encoding of an empty one.
        key.clone(),
    ] {
        let bytes = [
            samples::gemm(),
            wire::field(14, &body),
            encoded(&ENTRIES[1..]),
        ]
        .concat();
        let (offset, expected, _) = misfit(&bytes);
        assert_eq!(offset, samples::gemm().len() as u64);
        assert_eq!(expected, "the entry's only encoding");
    }
    let body = [key, value].concat();
    let long_outer = [vec![0x72, 0x80 | body.len() as u8, 0], body].concat();
    misfit(&[samples::gemm(), long_outer, encoded(&ENTRIES[1..])].concat());
}

#[test]
fn a_key_hidden_by_a_second_one_is_refused() {
    let body = [
        wire::field(1, b"author"),
        wire::field(1, MANIFEST.as_bytes()),
        wire::field(2, b"{}"),
    ];
    let bytes = corrupt::appended(&samples::gemm(), &wire::field(14, &body.concat()));
    let error = tail::split(&bytes).unwrap_err().to_string();
    assert!(
        error.ends_with("expected one occurrence, found a second"),
        "{error}"
    );
}

#[test]
fn values_must_be_utf8() {
    let bytes = corrupt::appended(
        &samples::gemm(),
        &tail::encode(&[(MANIFEST, b"\xff")], false),
    );
    let error = tail::split(&bytes).unwrap_err().to_string();
    assert!(error.ends_with("expected UTF-8"), "{error}");
}

#[test]
fn what_is_not_protobuf_is_refused() {
    assert!(tail::split(b"not a model").is_err());
    let cut = corrupt::truncated(&protected(&ENTRIES), 19);
    assert!(tail::split(&cut).is_err());
}

#[test]
fn no_flipped_byte_makes_it_panic_or_pass_for_the_same() {
    let bytes = protected(&ENTRIES);
    let intact = tail::split(&bytes).unwrap();
    let start = samples::gemm().len();
    for i in 0..bytes.len() {
        let damaged = corrupt::flipped(&bytes, i);
        let found = tail::split(&damaged);
        if i >= start {
            assert!(found.ok() != Some(intact.clone()), "byte {i}");
        }
    }
}

#[test]
fn marks_are_found_wherever_they_lie_and_in_nothing_else() {
    let locked = tail::encode(&ENTRIES.map(|(key, value)| (key, value.as_bytes())), true);
    for name in KEYS.into_iter().chain([MANIFEST, TAGS, MAC, SIG]) {
        assert!(tail::is_marked(&encoded(&[(name, "")])), "{name}");
    }
    assert!(tail::is_marked(LOCK));
    // Whatever is left of a tail has one, as long as it has one beginning of a name.
    for start in 0..locked.len() {
        let rest = &locked[start..];
        let is_left = KEY.len() + 30 < rest.len();
        assert!(!is_left || tail::is_marked(rest), "from {start}");
    }
    assert!(tail::is_marked(
        &[&samples::gemm(), &*locked, &samples::gemm()].concat()
    ));
    for text in [
        "",
        "onnxseal.manifest",
        "\n onnxseal.tags",
        "\n\x0fonnxseal-labels",
    ] {
        assert!(!tail::is_marked(text.as_bytes()), "{text:?}");
    }
    for sample in samples::all() {
        assert!(!tail::is_marked(&sample.model));
    }
}
