#![allow(clippy::unwrap_used, clippy::panic)]

use nalgebra::DMatrix;
use onnxseal_crypto::inputs::{Draw, InputSeed};

use super::*;
use crate::key::{Layout, Order, Spec, Transform};
use crate::{Scale, key};

const ROWS: usize = 32;
const CHANNELS: usize = 3;
const IMAGE: usize = CHANNELS * ROWS * ROWS;

fn some(set: &ImageSet, range: std::ops::Range<usize>) -> ImageSet {
    ImageSet {
        values: set.values[range.start * IMAGE..range.end * IMAGE].to_vec(),
        n: range.len(),
        ..*set
    }
}

fn keyed(set: &ImageSet, key: &InputKey) -> ImageSet {
    let mut pixels: Vec<u8> = set.values.iter().map(|x| *x as u8).collect();
    let cipher = key.cipher(ROWS, ROWS).unwrap();
    cipher
        .apply_in_place(&mut pixels[..], Scale::Pixels)
        .unwrap();
    ImageSet {
        values: pixels.into_iter().map(f64::from).collect(),
        ..*set
    }
}

/// Pictures that are smooth as natural ones are: random fields, coarse ones strongest, whose
/// channels go together, lit from above.
fn smooth(n: usize) -> ImageSet {
    let seed = InputSeed::from_hex(&"5a".repeat(32)).unwrap();
    let mut numbers = seed.numbers(Draw::Shuffle).unwrap();
    let mut random = || f64::from(numbers.below(1 << 20)) / f64::from(1 << 19) - 1.0;
    let mut values = Vec::with_capacity(n * IMAGE);
    for _ in 0..n {
        let tint = [random(), random(), random()];
        let mut layers: Vec<(usize, f64, Vec<[f64; 4]>)> = Vec::new();
        for (step, weight) in [(16, 50.0), (8, 28.0), (4, 16.0), (2, 9.0)] {
            let side = ROWS / step + 2;
            let cells = (0..side * side).map(|_| [random(), random(), random(), random()]);
            layers.push((step, weight, cells.collect()));
        }
        for (channel, tint) in tint.into_iter().enumerate() {
            for (y, x) in (0..ROWS).flat_map(|y| (0..ROWS).map(move |x| (y, x))) {
                let mut value = 110.0 + 40.0 * tint - 15.0 * channel as f64 + 30.0 - 2.0 * y as f64;
                for (step, weight, cells) in &layers {
                    let side = ROWS / step + 2;
                    let (fy, fx) = (y as f64 / *step as f64, x as f64 / *step as f64);
                    let (i, j) = (fy as usize, fx as usize);
                    let (v, u) = (fy.fract(), fx.fract());
                    let at = |i: usize, j: usize| {
                        let cell = cells[i * side + j];
                        0.85 * cell[3] + 0.5 * cell[channel]
                    };
                    let across = |i: usize| at(i, j) * (1.0 - u) + at(i, j + 1) * u;
                    value += weight * (across(i) * (1.0 - v) + across(i + 1) * v);
                }
                values.push(value.clamp(0.0, 255.0).floor());
            }
        }
    }
    ImageSet {
        values,
        n,
        rows: ROWS,
        columns: ROWS,
        order: (Layout::Nchw, false),
    }
}

fn key_of(block: u32, transforms: &[Transform]) -> InputKey {
    InputKey::generate(Spec {
        transforms: transforms.to_vec(),
        block,
        channels: CHANNELS as u32,
        layout: Layout::Nchw,
        order: Order::Rgb,
        range: (0.0, 255.0),
        normalisation: None,
    })
    .unwrap()
}

const BOTH: [Transform; 2] = [Transform::Shuffle, Transform::Negative];

#[test]
fn pairs_give_the_key() {
    let set = smooth(3);
    let (one, two, others) = (some(&set, 0..1), some(&set, 0..2), some(&set, 1..3));
    for block in [2, 4, 8, 16] {
        let key = key_of(block, &BOTH);
        let guess = from_pairs(&one, &keyed(&one, &key), key.spec()).unwrap();
        let score = guess.score(&key).unwrap();
        assert!(
            score.places > 0.93 && score.negated == 1.0,
            "{block} {score:?}"
        );
        let restored = guess.restored(&others, &keyed(&others, &key), key.spec());
        assert!(restored.unwrap() > 0.93);
    }
    assert!(from_pairs(&one, &two, key_of(4, &BOTH).spec()).is_err());
    assert!(from_pairs(&one, &one, key_of(5, &BOTH).spec()).is_err());
}

#[test]
fn a_public_checkpoint_gives_the_key() {
    let seed = InputSeed::from_hex(&"c3".repeat(32)).unwrap();
    let mut numbers = seed.numbers(Draw::Mask).unwrap();
    // Nearly normal, of deviation 1.
    let mut normal = move || {
        (0..12)
            .map(|_| f64::from(numbers.below(1 << 16)) / 65536.0)
            .sum::<f64>()
            - 6.0
    };
    let key = key_of(4, &BOTH);
    let key::BlockMap::Signed { places, negated } = key.map().unwrap() else {
        panic!();
    };
    let public = DMatrix::from_fn(16, 48, |_, _| normal());
    let rewritten = DMatrix::from_fn(16, 48, |d, t| {
        let sign = if negated[t] { -1.0 } else { 1.0 };
        sign * 1.3 * public[(d, places[t] as usize)] + 0.05 * normal()
    });
    let score = from_checkpoint(&public, &rewritten)
        .unwrap()
        .score(&key)
        .unwrap();
    assert_eq!(
        score,
        Score {
            places: 1.0,
            near: 1.0,
            negated: 1.0
        }
    );
    assert!(from_checkpoint(&public, &DMatrix::zeros(16, 12)).is_err());
}

#[test]
fn weights_alone_give_the_halves_of_the_mask() {
    // Filters that are pieces of smooth pictures.
    let set = smooth(40);
    let mut values = Vec::new();
    each_block(&set, &set, key_of(4, &BOTH).spec(), |x, _| {
        values.extend_from_slice(x)
    })
    .unwrap();
    let filters = DMatrix::from_row_slice(values.len() / 48, 48, &values);
    let filters = filters.add_scalar(-128.0);
    for transforms in [&BOTH[..], &BOTH[..1], &BOTH[1..]] {
        let key = key_of(4, transforms);
        let (places, negated) = signed(&key, 48).unwrap();
        let rewritten = DMatrix::from_fn(filters.nrows(), 48, |d, t| {
            let sign = if negated[t] { -0.3 } else { 0.3 };
            sign * filters[(d, places[t] as usize)]
        });
        let mut halves = from_weights(&rewritten).unwrap();
        assert_eq!(
            score_of_halves(&halves, &key).unwrap(),
            1.0,
            "{transforms:?}"
        );
        // Which half is negated cannot be told.
        halves.iter_mut().for_each(|second| *second ^= true);
        assert_eq!(score_of_halves(&halves, &key).unwrap(), 1.0);
        assert!(score_of_halves(&halves, &key_of(8, transforms)).is_err());
    }
    let orthogonal = key_of(4, &[Transform::Orthogonal]);
    let halves = from_weights(&DMatrix::zeros(3, 48)).unwrap();
    assert!(score_of_halves(&halves, &orthogonal).is_err());
    // Guessing, as no column says anything.
    assert_eq!(score_of_halves(&halves, &key_of(4, &BOTH)).unwrap(), 0.5);
    let none = from_weights(&DMatrix::zeros(3, 0)).unwrap();
    assert!(none.is_empty());
    assert!(from_weights(&DMatrix::zeros(1, MAX_MATCHED + 1)).is_err());
}
