//! Changed tables and keys: an error each time, never a panic and never a wrong label.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_crypto::labels::LabelSeed;
use onnxseal_labels::head::Stored;
use onnxseal_labels::{Authority, Decoder, Description, Error, RowKind, Table, UserKey};
use onnxseal_testkit::corrupt::bit_flipped;
use prost::Message as _;

/// The fields of a table, to be made wrong.
#[derive(Clone, PartialEq, prost::Message)]
struct Fields {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    classes: u32,
    #[prost(uint32, tag = "3")]
    codewords: u32,
    #[prost(uint32, repeated, tag = "4")]
    traces: Vec<u32>,
    #[prost(bytes = "vec", tag = "5")]
    generators: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    points: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pads: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    weights: Vec<u8>,
    #[prost(bytes = "vec", tag = "9")]
    check_points: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    check: Vec<u8>,
    #[prost(bytes = "vec", tag = "11")]
    digest: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    authority: Vec<u8>,
    #[prost(string, tag = "13")]
    answers: String,
    #[prost(sint32, tag = "14")]
    axis: i32,
    #[prost(bytes = "vec", tag = "15")]
    tail: Vec<u8>,
    #[prost(string, tag = "16")]
    logits: String,
    #[prost(bytes = "vec", repeated, tag = "17")]
    revoked: Vec<Vec<u8>>,
    #[prost(uint32, tag = "18")]
    unknown: u32,
    #[prost(string, repeated, tag = "19")]
    outputs: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Signed {
    #[prost(bytes = "vec", tag = "1")]
    table: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

/// Makes a field wrong.
type Change = fn(&mut Fields);

struct Made {
    seed: LabelSeed,
    key: UserKey,
    text: String,
}

/// A table of 3 classes with 2 codewords each, and a trace.
fn made() -> Made {
    let mut authority = Authority::generate(1, None).unwrap();
    authority.add_user("acme").unwrap();
    let stored = Stored {
        dims: vec![7, 2],
        weights: vec![1; 56],
        bias: None,
    };
    let outputs = ["z".to_owned()];
    let about = Description {
        answers: "z",
        logits: "z",
        axis: 1,
        outputs: &outputs,
        tail: &[],
        stored: &stored,
    };
    let share = |class| RowKind::Share {
        class,
        weight: 1 << 22,
    };
    let kinds = [
        share(0),
        share(2),
        share(1),
        RowKind::Trace,
        share(1),
        share(0),
        share(2),
    ];
    let table = Table::build(&authority, &about, 3, 2, &kinds).unwrap();
    let text = authority.to_text().unwrap();
    let seed = text.split('"').nth(3).unwrap();
    Made {
        seed: LabelSeed::from_hex(seed).unwrap(),
        key: authority.user_key("acme").unwrap(),
        text: table.to_text(),
    }
}

fn open(text: &str, key: &UserKey) -> Result<Decoder, Error> {
    Decoder::new(&Table::parse(text)?, key)
}

impl Made {
    fn fields(&self) -> Fields {
        let signed = Signed::decode(&STANDARD.decode(&self.text).unwrap()[..]).unwrap();
        Fields::decode(&signed.table[..]).unwrap()
    }

    /// Fields with the authority's own signature.
    fn signed(&self, table: Vec<u8>) -> String {
        let message = [&b"onnxseal/v1/labels/table\0"[..], &table].concat();
        let signature = self.seed.signer().unwrap().sign(&message).to_vec();
        STANDARD.encode(Signed { table, signature }.encode_to_vec())
    }

    /// What a decoder says of a table that the authority signed with a field changed.
    fn changed(&self, change: impl FnOnce(&mut Fields)) -> Result<Decoder, Error> {
        let mut fields = self.fields();
        change(&mut fields);
        open(&self.signed(fields.encode_to_vec()), &self.key)
    }
}

#[test]
fn each_bit_of_a_table_counts() {
    let made = made();
    open(&made.text, &made.key).unwrap();
    assert!(
        made.changed(|_| {}).is_ok(),
        "the test signs as the authority does"
    );
    let bytes = STANDARD.decode(&made.text).unwrap();
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let text = STANDARD.encode(bit_flipped(&bytes, i, bit));
            let error = open(&text, &made.key).unwrap_err();
            let is_told = matches!(
                error,
                Error::MalformedTable { .. }
                    | Error::Unauthentic { .. }
                    | Error::OtherAuthority { .. }
            );
            assert!(is_told, "byte {i}, bit {bit}: {error}");
        }
    }
    // The text itself, too.
    for i in 0..made.text.len() {
        let mut text = made.text.clone().into_bytes();
        text[i] = if text[i] == b'A' { b'B' } else { b'A' };
        assert!(
            open(str::from_utf8(&text).unwrap(), &made.key).is_err(),
            "character {i}"
        );
    }
    for text in [
        "",
        "A",
        "====",
        &made.text[..made.text.len() - 4],
        &format!("{}\n", made.text),
    ] {
        assert!(matches!(
            open(text, &made.key),
            Err(Error::MalformedTable { .. })
        ));
    }
}

#[test]
fn tables_that_the_authority_should_not_have_signed() {
    let made = made();
    let malformed: [(&str, Change); 20] = [
        ("version", |f| f.version = 1),
        ("one class", |f| f.classes = 1),
        ("huge", |f| f.classes = u32::MAX),
        ("codewords", |f| f.codewords = 1),
        ("rows", |f| f.codewords = 3),
        ("no trace", |f| f.traces.clear()),
        ("a trace beyond", |f| f.traces = vec![7]),
        ("traces twice", |f| f.traces = vec![3, 3]),
        ("generators", |f| f.generators.truncate(63)),
        ("points", |f| f.points.push(0)),
        ("pads", |f| f.pads.truncate(27)),
        ("a pad", |f| f.pads[0] = 3),
        ("weights", |f| f.weights.push(0)),
        ("check", |f| f.check.truncate(15)),
        ("digest", |f| f.digest.push(1)),
        ("no name", |f| f.answers.clear()),
        ("axis", |f| f.axis = 2),
        ("outputs", |f| f.outputs.clear()),
        ("unknown", |f| f.unknown = 1),
        ("revoked", |f| f.revoked = vec![vec![1; 8], vec![1; 8]]),
    ];
    for (what, change) in malformed {
        let error = made.changed(change).unwrap_err();
        assert!(
            matches!(error, Error::MalformedTable { .. }),
            "{what}: {error}"
        );
    }
    // The identity, and what is no point.
    for point in [[0; 32], [0xff; 32]] {
        let error = made
            .changed(|f| f.points[64..96].copy_from_slice(&point))
            .unwrap_err();
        assert!(matches!(error, Error::MalformedTable { .. }), "{error}");
        let error = made
            .changed(|f| f.check_points[..32].copy_from_slice(&point))
            .unwrap_err();
        assert!(matches!(error, Error::MalformedTable { .. }), "{error}");
    }
    // Rows that decrypt to something that no table has: a class with another number of rows,
    // weights out of range.
    let error = made
        .changed(|f| f.pads[0] = (f.pads[0] + 1) % 3)
        .unwrap_err();
    assert!(matches!(error, Error::MalformedTable { .. }), "{error}");
    let error = made
        .changed(|f| f.weights[3] = f.weights[3].wrapping_add(40))
        .unwrap_err();
    assert!(matches!(error, Error::MalformedTable { .. }), "{error}");
    // Points of another row, and another check.
    let error = made.changed(|f| f.check[0] ^= 1).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    let error = made.changed(|f| f.digest[0] ^= 1).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    // Fields twice, and out of order.
    let bytes = made.fields().encode_to_vec();
    for table in [
        [&bytes[..], &bytes[..2]].concat(),
        [&bytes[2..], &bytes[..2]].concat(),
    ] {
        let error = open(&made.signed(table), &made.key).unwrap_err();
        assert!(matches!(error, Error::MalformedTable { .. }), "{error}");
    }
}

#[test]
fn each_byte_of_a_key_counts() {
    let made = made();
    let text = made.key.to_text();
    UserKey::from_text(&text).unwrap();
    for i in 0..text.len() {
        for bit in 0..8 {
            let bytes = bit_flipped(text.as_bytes(), i, bit);
            let error = UserKey::from_bytes(&bytes, None).unwrap_err();
            assert!(
                matches!(error, Error::MalformedKey { .. }),
                "byte {i}, bit {bit}: {error}"
            );
            assert!(!error.to_string().contains(&text[200..220]));
        }
    }
    for text in [
        text.replace('\n', "\r\n"),
        format!("{}\n", *text),
        text.to_uppercase(),
        text.trim_end().to_owned(),
        text.lines().rev().collect::<Vec<_>>().join("\n"),
        String::new(),
    ] {
        assert!(matches!(
            UserKey::from_text(&text),
            Err(Error::MalformedKey { .. })
        ));
    }
    assert!(matches!(
        UserKey::from_bytes(&vec![b'#'; 1 << 20], None),
        Err(Error::MalformedKey { .. })
    ));
}

#[test]
fn random_bytes_do_no_harm() {
    let made = made();
    let bytes = STANDARD.decode(&made.text).unwrap();
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    for _ in 0..3000 {
        let mut changed = bytes.clone();
        for _ in 0..=next() % 4 {
            let at = next() % changed.len();
            match next() % 3 {
                0 => changed[at] = next() as u8,
                1 => changed.truncate(at + 1),
                _ => changed.insert(at, next() as u8),
            }
        }
        if changed != bytes {
            assert!(open(&STANDARD.encode(&changed), &made.key).is_err());
        }
        let noise: Vec<u8> = (0..next() % 200).map(|_| next() as u8).collect();
        assert!(open(&STANDARD.encode(&noise), &made.key).is_err());
        assert!(UserKey::from_bytes(&noise, None).is_err());
    }
}
