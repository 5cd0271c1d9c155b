#![allow(clippy::unwrap_used, clippy::panic)]

use nalgebra::DMatrix;
use onnxseal_crypto::inputs::{Draw, InputSeed};

use super::*;
use crate::key::{Layout, Order, Spec, Transform};
use crate::{Scale, key};

const ROWS: usize = 32;
const CHANNELS: usize = 3;
const IMAGE: usize = CHANNELS * ROWS * ROWS;

/// Whole images of pixels.
struct Set(Vec<f64>);

impl Set {
    fn pictures(&self) -> Pictures<'_> {
        Pictures {
            values: &self.0,
            n: self.0.len() / IMAGE,
            channels: CHANNELS,
            rows: ROWS,
            columns: ROWS,
        }
    }

    fn some(&self, range: std::ops::Range<usize>) -> Set {
        Set(self.0[range.start * IMAGE..range.end * IMAGE].to_vec())
    }

    fn keyed(&self, key: &InputKey) -> Set {
        let mut pixels: Vec<u8> = self.0.iter().map(|x| *x as u8).collect();
        let cipher = key.cipher(ROWS, ROWS).unwrap();
        cipher
            .apply_in_place(&mut pixels[..], Scale::Pixels)
            .unwrap();
        Set(pixels.into_iter().map(f64::from).collect())
    }
}

/// Pictures that are smooth as natural ones are: random fields, coarse ones strongest, whose
/// channels go together, lit from above.
fn smooth(n: usize) -> Set {
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
    Set(values)
}

/// The first images of CIFAR-10's test set, where the checkout has them.
fn cifar() -> Option<Set> {
    let path = onnxseal_testkit::shared::shared_dir().join("data/cifar10/test_100.csv");
    let text = std::fs::read_to_string(path).ok()?;
    let mut values = Vec::new();
    for line in text.lines() {
        let pixels: Vec<f64> = line
            .split(',')
            .skip(1)
            .map(|x| x.trim().parse().unwrap())
            .collect();
        for channel in 0..CHANNELS {
            values.extend(pixels.iter().skip(channel).step_by(CHANNELS));
        }
    }
    Some(Set(values))
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
    for block in [2, 4, 8, 16] {
        let key = key_of(block, &BOTH);
        let known = set.some(0..1);
        let guess = from_pairs(
            &known.pictures(),
            &known.keyed(&key).pictures(),
            block,
            255.0,
        )
        .unwrap();
        let score = guess.score(&key).unwrap();
        assert!(
            score.places > 0.93 && score.negated == 1.0,
            "{block} {score:?}"
        );
        let others = set.some(1..3);
        let restored = guess.restored(
            &others.pictures(),
            &others.keyed(&key).pictures(),
            block,
            255.0,
        );
        assert!(restored.unwrap() > 0.93);
    }
    let (one, two) = (set.some(0..1), set.some(0..2));
    assert!(from_pairs(&one.pictures(), &two.pictures(), 4, 255.0).is_err());
    assert!(from_pairs(&one.pictures(), &one.pictures(), 5, 255.0).is_err());
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
    let grid = Grid::new(&set.pictures(), 4).unwrap();
    let filters = DMatrix::from_row_slice(grid.values.len() / 48, 48, &grid.values);
    let filters = filters.add_scalar(-128.0);
    for transforms in [&BOTH[..], &BOTH[..1], &BOTH[1..]] {
        let key = key_of(4, transforms);
        let (places, negated) = signed(&key, 48).unwrap();
        let rewritten = DMatrix::from_fn(filters.nrows(), 48, |d, t| {
            let sign = if negated[t] { -0.3 } else { 0.3 };
            sign * filters[(d, places[t] as usize)]
        });
        let mut halves = from_weights(&rewritten).unwrap();
        assert_eq!(halves.score(&key).unwrap(), 1.0, "{transforms:?}");
        // Which half is negated cannot be told.
        halves.second.iter_mut().for_each(|second| *second ^= true);
        assert_eq!(halves.score(&key).unwrap(), 1.0);
        assert!(halves.score(&key_of(8, transforms)).is_err());
    }
    let orthogonal = key_of(4, &[Transform::Orthogonal]);
    let halves = from_weights(&DMatrix::zeros(3, 48)).unwrap();
    assert!(halves.score(&orthogonal).is_err());
    // Guessing, as no column says anything.
    assert_eq!(halves.score(&key_of(4, &BOTH)).unwrap(), 0.5);
    let none = from_weights(&DMatrix::zeros(3, 0)).unwrap();
    assert!(none.second.is_empty());
    assert!(from_weights(&DMatrix::zeros(1, MAX_MATCHED + 1)).is_err());
}

#[test]
fn keyed_images_alone_give_the_key() {
    let set = smooth(120);
    for (block, transforms) in [
        (2, &BOTH[..]),
        (4, &BOTH),
        (4, &BOTH[..1]),
        (4, &BOTH[1..]),
        (8, &BOTH),
    ] {
        let key = key_of(block, transforms);
        let keyed = set.some(0..40).keyed(&key);
        let guess = from_images(
            &keyed.pictures(),
            &set.some(40..120).pictures(),
            block,
            255.0,
        );
        let score = guess.unwrap().score(&key).unwrap();
        assert!(
            score.near > 0.95 && score.negated > 0.99,
            "{block} {transforms:?} {score:?}"
        );
    }
}

#[test]
fn twenty_images_of_cifar_give_the_key() {
    let Some(set) = cifar() else {
        eprintln!("skipped: the checkout has no images of CIFAR-10");
        return;
    };
    for block in [2, 4, 8] {
        let key = key_of(block, &BOTH);
        let keyed = set.some(0..20).keyed(&key);
        let guess = from_images(
            &keyed.pictures(),
            &set.some(20..100).pictures(),
            block,
            255.0,
        );
        let score = guess.unwrap().score(&key).unwrap();
        assert_eq!(
            score,
            Score {
                places: 1.0,
                near: 1.0,
                negated: 1.0
            },
            "{block}"
        );
    }
}
