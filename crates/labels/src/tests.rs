//! Tests against `fixtures/vectors/labels.json`, which the reference in
//! `fixtures/reference/onnxseal_labels.py` made.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use nalgebra::DMatrix;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::group::{Hidden, Place, Row, UNIT, check_value, open, shared};
use crate::key::{check_name, from_hex};
use crate::shares::mix;
use crate::stored::Stored;
use crate::traces::{Features, Samples, row};
use crate::{Authority, Decoder, Description, Table, UserKey};

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/vectors/labels.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    from_hex(value.as_str().unwrap()).unwrap().to_vec()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn points(value: &Value) -> Vec<[u8; 32]> {
    hex(value).as_chunks::<32>().0.to_vec()
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn scalar(value: &Value) -> Scalar {
    Scalar::from_canonical_bytes(array(value)).unwrap()
}

/// Numbers of lists in lists.
fn floats(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(values) => values.iter().flat_map(floats).collect(),
        None => vec![value.as_f64().unwrap()],
    }
}

fn hidden(value: &Value) -> Hidden {
    Hidden {
        class: int(&value[0]) as u32,
        weight: int(&value[1]) as i32,
    }
}

#[track_caller]
fn close(a: &[f64], b: &[f64]) {
    let largest = b.iter().fold(0.0, |largest, b| b.abs().max(largest));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-9 * largest, "{a} {b}");
    }
}

/// The authority of a vector, with its users.
fn authority(of: &Value) -> Authority {
    let users = list(of, "users").iter();
    let users: Vec<Value> = users
        .map(|user| serde_json::json!({"name": user["name"], "revoked": false}))
        .collect();
    let book = serde_json::json!({
        "seed": of["seed"], "onnxseal_label_authority": 1, "collusion": of["collusion"], "recipients": [], "users": users, "models": []
    });
    // The secret comes first.
    let book = serde_json::to_string_pretty(&book).unwrap();
    Authority::from_text(&book).unwrap()
}

#[test]
fn authorities_and_their_keys() {
    for of in list(&vectors(), "authorities") {
        let authority = authority(of);
        assert_eq!(authority.public(), array(&of["public"]));
        let generators: Vec<[u8; 32]> = list(of, "generators").iter().map(array).collect();
        assert_eq!(authority.exponents().points(), generators);
        for user in list(of, "users") {
            let key = authority.user_key(text(user, "name")).unwrap();
            assert_eq!(*key.to_text(), *text(user, "text"));
            assert_eq!(key.id(), array(&user["id"]));
            let secrets: Vec<Scalar> = list(user, "secrets").iter().map(scalar).collect();
            assert_eq!(*key.secrets(), *secrets);
            let again = UserKey::from_text(text(user, "text")).unwrap();
            assert_eq!(again.name(), key.name());
        }
    }
}

#[test]
fn names_and_keys_that_are_refused() {
    let vectors = vectors();
    let names = &vectors["names"];
    for name in list(names, "taken") {
        check_name(name.as_str().unwrap()).unwrap();
    }
    for name in list(names, "refused") {
        assert!(check_name(name.as_str().unwrap()).is_err(), "{name}");
    }
    for key in list(&vectors, "refused_keys") {
        let read = UserKey::from_text(text(key, "text"));
        assert!(
            matches!(read, Err(Error::MalformedKey { .. })),
            "{}",
            key["what"]
        );
    }
}

#[test]
fn digests_of_rows() {
    for of in list(&vectors(), "digests") {
        let stored = Stored {
            dims: list(of, "dims").iter().map(|dim| int(dim) as u64).collect(),
            weights: hex(&of["weight"]),
            bias: of["bias"].is_string().then(|| hex(&of["bias"])),
        };
        let name = text(of, "name");
        let about = Description {
            answers: name,
            logits: name,
            axis: int(&of["axis"]) as i32,
            outputs: &[],
            tail: &hex(&of["tail"]),
            stored: &stored,
        };
        assert_eq!(about.digest(), array(&of["digest"]), "{}", of["what"]);
    }
}

fn place<'a>(of: &Value, digest: &'a [u8; 32]) -> Place<'a> {
    Place {
        digest,
        row: int(&of["row"]) as u32,
        classes: int(&of["classes"]) as u32,
    }
}

fn sealed(of: &Value) -> Row {
    Row {
        points: points(&of["points"]),
        pad: int(&of["pad"]) as u32,
        weight: int(&of["masked"]) as u32,
    }
}

/// The authorities with as many generators as the row has points.
fn fitting<'a>(vectors: &'a Value, row: &Value) -> impl Iterator<Item = &'a Value> {
    let n = points(&row["points"]).len();
    let all = list(vectors, "authorities").iter();
    all.filter(move |of| list(of, "generators").len() == n)
}

#[test]
fn shares_and_checks_of_given_randomness() {
    let vectors = vectors();
    for of in list(&vectors, "shares") {
        let digest = array(&of["digest"]);
        let place = place(of, &digest);
        let hidden = hidden(&serde_json::json!([of["class"], of["weight"]]));
        let r = scalar(&of["r"]);
        let is_made =
            |from: &&Value| authority(from).exponents().share(place, hidden, &r) == sealed(of);
        let from = fitting(&vectors, of).find(is_made).unwrap();
        for user in list(from, "users") {
            let key = authority(from).user_key(text(user, "name")).unwrap();
            let secret = shared(key.secrets(), &points(&of["points"])).unwrap();
            assert_eq!(secret, array(&of["shared"]));
            assert_eq!(open(place, &sealed(of), key.secrets()).unwrap(), hidden);
        }
    }
    for of in list(&vectors, "checks") {
        let (digest, r) = (array(&of["digest"]), scalar(&of["r"]));
        let wanted = (points(&of["points"]), array(&of["check"]));
        let is_made = |from: &&Value| authority(from).exponents().check(&digest, &r) == wanted;
        let from = fitting(&vectors, of).find(is_made).unwrap();
        let key = authority(from)
            .user_key(text(&from["users"][0], "name"))
            .unwrap();
        let secret = shared(key.secrets(), &wanted.0).unwrap();
        assert_eq!(check_value(&digest, &secret), wanted.1);
    }
}

#[test]
fn fakes_read_otherwise_with_each_key() {
    let vectors = vectors();
    for of in list(&vectors, "fakes") {
        let digest = array(&of["digest"]);
        let made = |from: &&Value| {
            let pairs = list(from, "a").iter().zip(list(of, "rs"));
            let made = pairs.map(|(a, r)| RistrettoPoint::mul_base(&(scalar(a) * scalar(r))));
            made.map(|point| point.compress().to_bytes())
                .collect::<Vec<_>>()
                == points(&of["points"])
        };
        let from = fitting(&vectors, of).find(made).unwrap();
        for read in list(of, "read") {
            let key = authority(from).user_key(text(read, "name")).unwrap();
            let row = sealed(of);
            assert_eq!(
                shared(key.secrets(), &row.points).unwrap(),
                array(&read["shared"])
            );
            let wanted = hidden(&serde_json::json!([read["class"], read["weight"]]));
            assert_eq!(
                open(place(of, &digest), &row, key.secrets()).unwrap(),
                wanted
            );
        }
    }
}

/// Opens all rows with a key.
fn rows(table: &Table, key: &UserKey) -> Vec<Hidden> {
    let read = |c| {
        let place = Place {
            digest: table.digest(),
            row: c,
            classes: table.classes(),
        };
        open(place, &table.row(c).unwrap(), key.secrets()).unwrap()
    };
    (0..table.n_rows()).map(read).collect()
}

#[test]
fn whole_table() {
    let vectors = vectors();
    let of = &vectors["table"];
    let table = Table::parse(text(of, "text")).unwrap();
    assert_eq!(table.to_text(), text(of, "text"));
    table.verify().unwrap();
    let contents = &of["contents"];
    assert_eq!(i64::from(table.classes()), int(&contents["classes"]));
    assert_eq!(i64::from(table.codewords()), int(&contents["codewords"]));
    assert_eq!(*table.digest(), array(&contents["digest"]));
    assert_eq!(table.answers(), text(contents, "answers"));
    let stored = Stored {
        dims: list(of, "dims").iter().map(|dim| int(dim) as u64).collect(),
        weights: hex(&of["weight"]),
        bias: Some(hex(&of["bias"])),
    };
    assert_eq!(table.description(&stored).digest(), *table.digest());
    let answers: Vec<f32> = floats(&of["answers"]).iter().map(|v| *v as f32).collect();
    for read in list(of, "read") {
        let key = UserKey::from_text(text(read, "key")).unwrap();
        let wanted: Vec<Hidden> = list(read, "rows").iter().map(hidden).collect();
        assert_eq!(rows(&table, &key), wanted);
        let decoder = Decoder::new(&table, &key).unwrap();
        let z = decoder
            .decode(&answers, &[list(of, "answers").len(), 8])
            .unwrap();
        for (z, wanted) in z.iter().zip(floats(&read["z"])) {
            assert!(
                (f64::from(*z) - wanted).abs() <= 2e-7 * wanted.abs(),
                "{z} {wanted}"
            );
        }
    }
}

#[test]
fn keys_that_are_mixed_read_the_same_shares_and_other_traces() {
    let vectors = vectors();
    let table = Table::parse(text(&vectors["table"], "text")).unwrap();
    let mixed = &vectors["mixed_key"];
    let key = UserKey::from_text(text(mixed, "text")).unwrap();
    let wanted: Vec<Hidden> = list(mixed, "rows").iter().map(hidden).collect();
    assert_eq!(rows(&table, &key), wanted);
    Decoder::new(&table, &key).unwrap();
}

#[test]
fn a_table_that_one_users_key_no_longer_opens() {
    let vectors = vectors();
    let revoking = &vectors["revoking_table"];
    let table = Table::parse(text(revoking, "text")).unwrap();
    let refused = UserKey::from_text(text(revoking, "refused_key")).unwrap();
    assert!(matches!(
        Decoder::new(&table, &refused),
        Err(Error::Revoked { .. })
    ));
    let taken = UserKey::from_text(text(revoking, "taken_key")).unwrap();
    Decoder::new(&table, &taken).unwrap();
    let wanted: Vec<Hidden> = list(revoking, "rows").iter().map(hidden).collect();
    assert_eq!(rows(&table, &taken), wanted);
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::MalformedTable { .. } | Error::MalformedKey { .. } => "malformed",
        Error::Unauthentic { .. } => "signature",
        Error::OtherAuthority { .. } => "other_authority",
        Error::WrongKey { .. } => "wrong_key",
        Error::Revoked { .. } => "revoked",
        other => panic!("{other}"),
    }
}

#[track_caller]
fn refuses(of: &Value, table: &str, key: &str) {
    let opened = || -> Result<Decoder> {
        let key = UserKey::from_text(key)?;
        Decoder::new(&Table::parse(table)?, &key)
    };
    let error = opened().err().unwrap_or_else(|| panic!("{}", of["what"]));
    let reasons: Vec<&str> = list(of, "reasons")
        .iter()
        .map(|reason| reason.as_str().unwrap())
        .collect();
    assert!(reasons.contains(&reason(&error)), "{}: {error}", of["what"]);
}

#[test]
fn tables_that_are_refused() {
    let vectors = vectors();
    let good = STANDARD.decode(text(&vectors["table"], "text")).unwrap();
    let key = text(&vectors["table"]["read"][0], "key");
    for of in list(&vectors, "refused_tables") {
        let table = match of["text"].as_str() {
            Some(text) => text.to_owned(),
            None => {
                let mut bytes = good.clone();
                for edit in list(of, "edits") {
                    let (at, take) = (int(&edit[0]) as usize, int(&edit[1]) as usize);
                    bytes.splice(at..at + take, hex(&edit[2]));
                }
                STANDARD.encode(bytes)
            }
        };
        refuses(of, &table, key);
    }
    for of in list(&vectors, "refused_with_keys") {
        refuses(of, text(&vectors["table"], "text"), text(of, "text"));
    }
}

#[test]
fn shares_of_given_numbers() {
    for of in list(&vectors(), "splits") {
        let mut made: Vec<f32> = Vec::new();
        let classes = list(of, "a").iter().zip(list(of, "weights"));
        for ((class, weights), drawn) in classes.zip(list(of, "drawn")) {
            let class = floats(class);
            let weights: Vec<i32> = floats(weights).iter().map(|w| *w as i32).collect();
            let rows = mix(&class, &weights, &floats(drawn));
            for (i, wanted) in class.iter().enumerate() {
                let parts = rows.iter().zip(&weights);
                let parts = parts.map(|(row, w)| f64::from(*w) * UNIT * f64::from(row[i]));
                assert!((parts.sum::<f64>() - wanted).abs() < 1e-6);
            }
            made.extend(rows.concat());
        }
        let wanted = floats(&of["rows"]);
        assert_eq!(made.len(), wanted.len());
        let stored = hex(&of["float32"]);
        for ((made, wanted), stored) in made.iter().zip(wanted).zip(stored.as_chunks().0) {
            let stored = f32::from_le_bytes(*stored);
            assert!(
                (made - stored).abs() <= 1e-6 * stored.abs(),
                "{made} {stored} {wanted}"
            );
        }
    }
}

#[test]
fn traces_of_given_features() {
    let vectors = vectors();
    let of = &vectors["traces"];
    let fitted = int(&of["fitted"]) as usize;
    let (fitted, held) = list(of, "features").split_at(fitted);
    // Every third one is held out.
    let order = fitted
        .chunks(2)
        .zip(held)
        .flat_map(|(two, one)| two.iter().chain([one]));
    let values: Vec<f64> = order.flat_map(floats).collect();
    let x = floats(&of["x"]);
    let samples = Samples::new(Features {
        values: &values,
        columns: x.len(),
    });
    let candidate = samples.centred(&DMatrix::from_row_slice(1, x.len(), &x));
    for case in list(of, "cases") {
        let lambda = case["lambda"].as_f64().unwrap();
        let directions = samples.directions(lambda, &candidate).unwrap();
        let trace = row(
            &directions[0],
            &samples.mean,
            of["logits_range"].as_f64().unwrap(),
        );
        close(directions[0].weights.as_slice(), &floats(&case["g"]));
        close(&[directions[0].top_of_all], &floats(&case["top"]));
        close(&trace.weights, &floats(&case["weight"]));
        close(&[trace.bias], &floats(&case["bias"]));
    }
}
