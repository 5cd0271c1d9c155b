//! The whole scheme on made-up features: what key holders read, and what others get.

use onnxseal_crypto::Error as KeyError;
use onnxseal_crypto::wrap::{Identities, Recipients, generate_identity};
use onnxseal_labels::head::{Head, Stored};
use onnxseal_labels::traces::Trace;
use onnxseal_labels::{Authority, Decoder, Error, Plan, Table, UserKey, classes, protect, softmax};
use onnxseal_onnx::{Limits, locate};
use onnxseal_rewrite::Source;
use onnxseal_testkit::build::*;

const K: usize = 10;
const D: usize = 16;

fn head() -> Head {
    let bytes = GraphBuilder::new("g")
        .input("x", &[-1, D as i64])
        .initializer(weights("w", &[K as i64, D as i64], 1))
        .initializer(weights("b", &[K as i64], 2))
        .node(node_with(
            "Gemm",
            &["x", "w", "b"],
            &["z"],
            vec![int_attribute("transB", 1)],
        ))
        .output("z", &[-1, K as i64])
        .encode();
    let model = locate(&bytes, &Limits::default()).unwrap();
    let external = |_: &str, _| panic!("there is no external data");
    let source = Source {
        bytes: &bytes,
        model: &model,
        external: &external,
    };
    Head::find(&source, None).unwrap()
}

fn authority(collusion: u32, users: &[&str]) -> Authority {
    let mut authority = Authority::generate(collusion, None).unwrap();
    for user in users {
        assert!(authority.add_user(user).unwrap());
    }
    authority
}

/// Three samples.
fn features() -> Vec<f32> {
    floats(3 * D, 9)
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

/// What the rewritten layer gives.
fn answers(stored: &Stored, x: &[f32]) -> Vec<f32> {
    let (rows, bias) = (f32s(&stored.weights), f32s(stored.bias.as_ref().unwrap()));
    x.chunks_exact(D)
        .flat_map(|x| {
            let row = |(row, bias): (&[f32], &f32)| {
                row.iter()
                    .zip(x)
                    .map(|(w, x)| f64::from(*w) * f64::from(*x))
                    .sum::<f64>() as f32
                    + bias
            };
            rows.chunks_exact(D)
                .zip(&bias)
                .map(row)
                .collect::<Vec<f32>>()
        })
        .collect()
}

fn logits(head: &Head, x: &[f32]) -> Vec<f32> {
    let bias = head.bias.as_ref().unwrap();
    x.chunks_exact(D)
        .flat_map(|x| {
            let row = |(row, bias): (&[f64], &f64)| {
                (row.iter()
                    .zip(x)
                    .map(|(w, x)| w * f64::from(*x))
                    .sum::<f64>()
                    + bias) as f32
            };
            head.weights
                .chunks_exact(D)
                .zip(bias)
                .map(row)
                .collect::<Vec<f32>>()
        })
        .collect()
}

fn trace() -> Trace {
    Trace {
        candidate: 0,
        weights: floats(D, 33)
            .iter()
            .map(|value| f64::from(*value))
            .collect(),
        bias: 0.25,
    }
}

fn read(plan: &Plan) -> Table {
    let text = plan.table.to_text();
    let table = Table::parse(&text).unwrap();
    assert_eq!(table.to_text(), text);
    table
}

#[test]
fn each_user_reads_the_logits() {
    for collusion in [1, 3] {
        let head = head();
        let authority = authority(collusion, &["acme", "größe", "b"]);
        let plan = protect(&head, &authority, 8, &[]).unwrap();
        let table = read(&plan);
        assert_eq!(
            (
                table.classes(),
                table.codewords(),
                table.n_rows(),
                table.collusion()
            ),
            (10, 8, 80, collusion)
        );
        let x = features();
        let (answers, wanted) = (answers(&plan.stored, &x), logits(&head, &x));
        for user in ["acme", "größe", "b"] {
            let key = authority.user_key(user).unwrap();
            let decoder = Decoder::new(&table, &key).unwrap();
            let z = decoder.decode(&answers, &[3, 80]).unwrap();
            for (z, wanted) in z.iter().zip(&wanted) {
                assert!((z - wanted).abs() < 1e-5, "{z} {wanted}");
            }
            assert_eq!(classes(&z, K), classes(&wanted, K));
        }
    }
}

/// Layers that show their classes by themselves: mostly zeros, classes that sum up to nothing, two
/// that are the same, one that is much larger, one that is 0.
#[test]
fn any_layer_is_protected() {
    let changes: [fn(&mut [f64]); 5] = [
        |weights| {
            let mut sizes: Vec<f64> = weights.iter().map(|weight| weight.abs()).collect();
            sizes.sort_by(f64::total_cmp);
            let limit = sizes[weights.len() * 9 / 10];
            let small = weights.iter_mut().filter(|weight| weight.abs() < limit);
            small.for_each(|weight| *weight = 0.0);
        },
        |weights| {
            for column in 0..D {
                let mean = weights.iter().skip(column).step_by(D).sum::<f64>() / K as f64;
                let column = weights.iter_mut().skip(column).step_by(D);
                column.for_each(|weight| *weight -= mean);
            }
        },
        |weights| weights.copy_within(..D, D),
        |weights| weights[..D].iter_mut().for_each(|weight| *weight *= 100.0),
        |weights| weights[..D].fill(0.0),
    ];
    let authority = authority(1, &["acme"]);
    let key = authority.user_key("acme").unwrap();
    for change in changes {
        let mut head = head();
        change(&mut head.weights);
        let plan = protect(&head, &authority, 8, &[]).unwrap();
        let x = features();
        let wanted = logits(&head, &x);
        let largest = wanted.iter().fold(0.0, |largest, z| z.abs().max(largest));
        let decoder = Decoder::new(&read(&plan), &key).unwrap();
        let z = decoder
            .decode(&answers(&plan.stored, &x), &[3, 80])
            .unwrap();
        for (z, wanted) in z.iter().zip(&wanted) {
            assert!((z - wanted).abs() < 2e-6 * largest, "{z} {wanted}");
        }
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    for bad in [f64::NAN, f64::INFINITY, 1e60] {
        let mut head = head();
        head.weights[3] = bad;
        let refused = protect(&head, &authority(1, &[]), 8, &[]);
        assert!(matches!(refused, Err(Error::Usage(text)) if text.contains("no numbers")));
    }
}

#[test]
fn keys_that_are_not_the_users_own() {
    let head = head();
    let mut authority = authority(1, &["a", "b"]);
    let other = {
        let mut other = Authority::generate(1, None).unwrap();
        other.add_user("a").unwrap();
        other.user_key("a").unwrap()
    };
    let table = read(&protect(&head, &authority, 4, &[]).unwrap());
    assert!(
        matches!(Decoder::new(&table, &other), Err(Error::OtherAuthority { user }) if user == "a")
    );
    // A key of this authority whose secrets are made up.
    let (a, b) = (
        authority.user_key("a").unwrap(),
        authority.user_key("b").unwrap(),
    );
    let text = a.to_text();
    let secrets = text
        .lines()
        .find(|line| line.starts_with("secrets"))
        .unwrap();
    let of_b = b
        .to_text()
        .lines()
        .find(|line| line.starts_with("secrets"))
        .unwrap()[75..]
        .to_owned();
    let mixed = text.replace(&secrets[75..], &of_b);
    assert!(matches!(
        UserKey::from_text(&mixed),
        Err(Error::MalformedKey { .. })
    ));
    let without_check = mixed.split("check = ").next().unwrap();
    let check = onnxseal_crypto::labels::sha256(without_check.as_bytes());
    let check: String = check[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let forged = UserKey::from_text(&format!("{without_check}check = \"{check}\"\n")).unwrap();
    assert!(matches!(
        Decoder::new(&table, &forged),
        Err(Error::WrongKey { .. })
    ));
    // Two who pool their keys have one that reads all, in nobody's name.
    let x = features();
    let plan = protect(&head, &authority, 4, &[]).unwrap();
    let decoder = Decoder::new(&plan.table, &a.mixed(&b, 12345)).unwrap();
    let z = decoder
        .decode(&answers(&plan.stored, &x), &[3, 40])
        .unwrap();
    assert_eq!(classes(&z, K), classes(&logits(&head, &x), K));
    // A revoked user's key is refused from the next table on.
    authority.revoke("a").unwrap();
    assert!(authority.user_key("a").is_err());
    let table = read(&protect(&head, &authority, 4, &[]).unwrap());
    assert!(matches!(Decoder::new(&table, &a), Err(Error::Revoked { user }) if user == "a"));
    Decoder::new(&table, &b).unwrap();
}

#[test]
fn wrong_keys_answer_by_chance() {
    let head = head();
    let right = authority(1, &[]);
    let plan = protect(&head, &right, 8, &[]).unwrap();
    let x = floats(100 * D, 21);
    let (answers, wanted) = (answers(&plan.stored, &x), classes(&logits(&head, &x), K));
    let other = authority(1, &[]);
    let mut hits = 0;
    for user in 0..200 {
        let mut other = Authority::from_text(&other.to_text().unwrap()).unwrap();
        let name = format!("user {user}");
        other.add_user(&name).unwrap();
        let decoder = Decoder::unchecked(&plan.table, &other.user_key(&name).unwrap()).unwrap();
        let z = decoder.decode(&answers, &[100, 80]).unwrap();
        hits += classes(&z, K)
            .iter()
            .zip(&wanted)
            .filter(|(a, b)| a == b)
            .count();
    }
    // Of one authority, and so of one wrong table for all of its users.
    assert!(hits < 200 * 100 / 2, "{hits}");
}

#[test]
fn traces_name_the_key_and_nobody_else() {
    let head = head();
    let names: Vec<String> = (0..300).map(|i| format!("user {i}")).collect();
    let authority = authority(2, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let traces = vec![trace(); 32];
    let plan = protect(&head, &authority, 4, &traces).unwrap();
    assert_eq!((plan.table.n_rows(), plan.table.traces().len()), (72, 32));
    let mut authority = authority;
    let mut model = plan.protected.clone();
    model.file = "m.onnx".into();
    authority.add_model(model);
    // As it is written and read again.
    let authority = Authority::from_text(&authority.to_text().unwrap()).unwrap();
    let model = authority.model_of(plan.table.digest()).unwrap();
    for culprit in ["user 7", "user 299"] {
        let decoder = Decoder::new(&plan.table, &authority.user_key(culprit).unwrap()).unwrap();
        let rows = plan.table.traces();
        let of_row: Vec<u32> = decoder.trace_classes().collect();
        let answers: Vec<Option<u32>> = (model.traces.iter())
            .map(|trace| Some(of_row[rows.iter().position(|row| *row == trace.row).unwrap()]))
            .collect();
        let verdict = authority.trace(model, &answers).unwrap();
        let accused: Vec<&str> = verdict.accused().map(|suspect| &*suspect.name).collect();
        assert_eq!(accused, [culprit]);
        assert_eq!(verdict.suspects[0].matches, 32);
        assert!(verdict.innocent < 1e-6);
    }
    let nobody = authority.trace(model, &[None; 32]).unwrap();
    assert_eq!(nobody.accused().count(), 0);
    assert!(authority.trace(model, &[None; 31]).is_err());
    // A trace adds to the class that each key reads in it.
    let x: Vec<f32> = floats(D, 33).iter().map(|value| value * 10.0).collect();
    let answers = answers(&plan.stored, &x);
    let decoder = Decoder::new(&plan.table, &authority.user_key("user 7").unwrap()).unwrap();
    let z = decoder.decode(&answers, &[1, 72]).unwrap();
    let plain = logits(&head, &x);
    let added: f32 = z.iter().zip(&plain).map(|(z, plain)| z - plain).sum();
    assert!(added > 32.0, "{added}");
}

#[test]
fn who_asks_another_users_service_accuses_that_user() {
    let mut authority = authority(1, &["asks", "is asked"]);
    let plan = protect(&head(), &authority, 4, &vec![trace(); 32]).unwrap();
    authority.add_model(plan.protected.clone());
    let key = authority.user_key("is asked").unwrap();
    let service = Decoder::new(&plan.table, &key).unwrap();
    // The table says which rows are traces. An input that fires one of them:
    let told = |row: u32| {
        let mut answers = [0.0; 72];
        answers[row as usize] = 1e3;
        classes(&service.decode(&answers, &[1, 72]).unwrap(), K)[0] as u32
    };
    let model = authority.model_of(plan.table.digest()).unwrap();
    let learnt: Vec<Option<u32>> = (model.traces.iter())
        .map(|trace| Some(told(trace.row)))
        .collect();
    let verdict = authority.trace(model, &learnt).unwrap();
    let accused: Vec<&str> = verdict.accused().map(|suspect| &*suspect.name).collect();
    assert_eq!(accused, ["is asked"]);
}

#[test]
fn answers_of_other_shapes() {
    let head = head();
    let authority = authority(1, &["a"]);
    let plan = protect(&head, &authority, 2, &[]).unwrap();
    let decoder = Decoder::new(&plan.table, &authority.user_key("a").unwrap()).unwrap();
    assert_eq!(decoder.shape(&[5, 20]).unwrap(), [5, 10]);
    assert_eq!(decoder.shape(&[5, 20, 3, 3]).unwrap(), [5, 10, 3, 3]);
    for shape in [&[5, 19][..], &[20], &[]] {
        assert!(matches!(decoder.decode(&[], shape), Err(Error::Usage(_))));
    }
    assert!(decoder.decode(&[0.0; 19], &[1, 20]).is_err());
    // Each position by itself.
    let x = features();
    let flat = answers(&plan.stored, &x);
    let mut positions = vec![0.0; flat.len()];
    for (i, value) in flat.iter().enumerate() {
        positions[i % 20 * 3 + i / 20] = *value;
    }
    let (flat, by_position) = (
        decoder.decode(&flat, &[3, 20]).unwrap(),
        decoder.decode(&positions, &[1, 20, 3]).unwrap(),
    );
    for (i, value) in flat.iter().enumerate() {
        assert_eq!(*value, by_position[i % 10 * 3 + i / 10]);
    }
    let nan = decoder.decode(&[f32::NAN; 20], &[1, 20]).unwrap();
    assert!(nan.iter().all(|value| value.is_nan()));
}

#[test]
fn probabilities_and_classes() {
    let p = softmax(&[1.0, 2.0, 3.0, 1000.0, 0.0, 1000.0], 3);
    assert!((p[0] - 0.090_030_57).abs() < 1e-7 && (p[3] - 0.5).abs() < 1e-7 && p[4] == 0.0);
    assert_eq!(classes(&[1.0, 2.0, 2.0, 5.0, 0.0, 1.0], 3), [1, 0]);
}

#[test]
fn files_of_authorities() {
    let identity = generate_identity();
    let recipients = Recipients::parse(&[identity.recipient()]).unwrap();
    let mut authority = Authority::generate(2, Some(&recipients)).unwrap();
    authority.add_user("a").unwrap();
    assert!(!authority.add_user("a").unwrap());
    for name in ["", " a", "a\n", "a\"", &"x".repeat(129)] {
        assert!(
            matches!(authority.add_user(name), Err(Error::Usage(_))),
            "{name:?}"
        );
    }
    let file = authority.to_file().unwrap();
    assert!(file.starts_with("-----BEGIN AGE"));
    let identities = Identities::from(identity);
    let path = std::path::Path::new("authority.age");
    let again = Authority::read(file.as_bytes(), path, Some(&identities)).unwrap();
    assert_eq!(*again.to_text().unwrap(), *authority.to_text().unwrap());
    assert!(matches!(
        Authority::read(file.as_bytes(), path, None),
        Err(Error::Key(KeyError::IdentityNeeded("the authority")))
    ));
    let text = authority.to_text().unwrap();
    let seed = text
        .lines()
        .find(|line| line.contains("seed"))
        .unwrap()
        .trim();
    for broken in [
        text.replace("\"users\"", "\"user\""),
        text.replace("\"collusion\": 2", "\"collusion\": 0"),
        text.replace("authority\": 1", "authority\": 2"),
        text.replace(seed, "\"seed\": \"00\","),
        text.replace(seed, ""),
        text.replace(seed, &format!("{seed}\n  \"more\": 1,")),
    ] {
        let error = Authority::from_text(&broken).unwrap_err();
        assert!(matches!(error, Error::MalformedAuthority { .. }));
        assert!(!error.to_string().contains(&seed[10..30]));
    }
    assert!(!format!("{authority:?}").contains(&seed[10..30]));
}
