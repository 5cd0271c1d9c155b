#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn spec(transforms: &[Transform]) -> Spec {
    Spec {
        transforms: transforms.to_vec(),
        block: 4,
        channels: 3,
        layout: Layout::Nchw,
        order: Order::Rgb,
        range: (0.0, 255.0),
        normalisation: None,
    }
}

#[test]
fn texts_round_trip() {
    use Transform::{Ffx, Negative, Orthogonal, Shuffle};
    let lists: [&[Transform]; 5] = [
        &[Shuffle],
        &[Negative],
        &[Shuffle, Negative],
        &[Shuffle, Ffx],
        &[Orthogonal],
    ];
    for transforms in lists {
        let normalisation = Some(Normalisation {
            mean: vec![123.675, 116.28, 103.53],
            std: vec![58.395],
        });
        let spec = Spec {
            normalisation,
            ..spec(transforms)
        };
        let key = InputKey::generate(spec.clone()).unwrap();
        let again = InputKey::from_text(&key.to_text()).unwrap();
        assert_eq!(again.spec(), &spec);
        assert_eq!(again.to_text(), key.to_text());
        assert_eq!(again.map().unwrap(), key.map().unwrap());
    }
    for transforms in [
        &[][..],
        &[Negative, Shuffle],
        &[Shuffle, Shuffle],
        &[Negative, Ffx],
        &[Shuffle, Orthogonal],
    ] {
        let result = InputKey::generate(spec(transforms));
        assert!(matches!(result, Err(Error::Usage(_))), "{transforms:?}");
    }
}

#[test]
fn no_message_has_the_seed() {
    let key = InputKey::generate(spec(&[Transform::Shuffle])).unwrap();
    let text = key.to_text().to_string();
    let seed = key.seed.to_hex().to_string();
    for broken in [
        text.replace("seed = \"", "seed = \"0"),
        text.replace("seed = \"", "seed = "),
        text.replace("seed", "sead"),
        text.replace("block = 4", "block = \"4\""),
        text.replace("version = 1", "version = 2"),
        text.replace("nchw", "chw"),
        text.clone() + "more = 1\n",
        text.clone() + &text,
        text.replace("block = 4", "block = 0"),
    ] {
        let error = InputKey::from_text(&broken).unwrap_err();
        assert!(matches!(error, Error::MalformedKey { .. }));
        assert!(!error.to_string().contains(&seed[..8]), "{error}");
    }
    // In the wrong place too.
    let misplaced = [
        ("version = 1", format!("version = \"{seed}\"")),
        ("\"nchw\"", format!("\"{seed}\"")),
        ("\"rgb\"", format!("\"{seed}\"")),
        ("\"shuffle\"", format!("\"{seed}\"")),
        ("block = 4", format!("{seed} = 4")),
        ("version = 1", format!("version = {seed}")),
    ];
    for (from, to) in misplaced {
        let error = InputKey::from_text(&text.replace(from, &to)).unwrap_err();
        assert!(!error.to_string().contains(&seed[..8]), "{error}");
    }
    assert!(InputKey::from_text(&(text.clone() + &"#\n".repeat(1 << 15))).is_err());
    assert!(!format!("{key:?}").contains(&seed[..8]));
}

#[test]
fn maps_between_keys() {
    let keys = |transforms: &[Transform]| {
        let key = || InputKey::generate(spec(transforms)).unwrap();
        (key(), key())
    };
    let (old, new) = keys(&[Transform::Shuffle, Transform::Negative]);
    let between = BlockMap::between(old.map().unwrap(), new.map().unwrap()).unwrap();
    let values: Vec<f64> = (0..48).map(f64::from).collect();
    let apply = |map: &BlockMap, values: &[f64]| -> Vec<f64> {
        let BlockMap::Signed { places, negated } = map else {
            panic!("{map:?}");
        };
        let value = |(from, negated): (&u32, &bool)| {
            if *negated {
                255.0 - values[*from as usize]
            } else {
                values[*from as usize]
            }
        };
        places.iter().zip(negated).map(value).collect()
    };
    let by_old = apply(old.map().unwrap(), &values);
    let by_new = apply(new.map().unwrap(), &values);
    assert_eq!(apply(&between, &by_old), by_new);

    let (old, new) = keys(&[Transform::Orthogonal]);
    let BlockMap::Orthogonal(own) =
        BlockMap::between(old.map().unwrap(), old.map().unwrap()).unwrap()
    else {
        panic!();
    };
    let one = nalgebra::DMatrix::identity(own.nrows(), own.ncols());
    assert!((own - one).amax() < 1e-12);
    assert_ne!(old.map().unwrap(), new.map().unwrap());
}
