//! Vectors of the reference in Python, round trips, and refusals.
#![allow(clippy::unwrap_used, clippy::panic)]

use half::f16;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::key::{Normalisation, Order};

/// Values of any type.
#[derive(Clone, Debug, PartialEq)]
enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I8(Vec<i8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Values {
    fn of(of: ValueType, values: impl Iterator<Item = f64>) -> Values {
        match of {
            ValueType::U8 => Values::U8(values.map(|v| v as u8).collect()),
            ValueType::U16 => Values::U16(values.map(|v| v as u16).collect()),
            ValueType::I8 => Values::I8(values.map(|v| v as i8).collect()),
            ValueType::F16 => Values::F16(values.map(f16::from_f64_const).collect()),
            ValueType::F32 => Values::F32(values.map(|v| v as f32).collect()),
        }
    }

    fn zeros(of: ValueType, n: usize) -> Values {
        Values::of(of, std::iter::repeat_n(0.0, n))
    }

    fn images(&self) -> Images<'_> {
        match self {
            Values::U8(values) => Images::U8(values),
            Values::U16(values) => Images::U16(values),
            Values::I8(values) => Images::I8(values),
            Values::F16(values) => Images::F16(values),
            Values::F32(values) => Images::F32(values),
        }
    }

    fn images_mut(&mut self) -> ImagesMut<'_> {
        match self {
            Values::U8(values) => ImagesMut::U8(values),
            Values::U16(values) => ImagesMut::U16(values),
            Values::I8(values) => ImagesMut::I8(values),
            Values::F16(values) => ImagesMut::F16(values),
            Values::F32(values) => ImagesMut::F32(values),
        }
    }

    fn numbers(&self) -> Vec<f64> {
        match self {
            Values::U8(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::U16(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::I8(values) => values.iter().map(|v| f64::from(*v)).collect(),
            Values::F16(values) => values.iter().map(|v| v.to_f64()).collect(),
            Values::F32(values) => values.iter().map(|v| f64::from(*v)).collect(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Values::U8(values) => values.clone(),
            Values::U16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::I8(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::F16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

fn vectors() -> Json {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/vectors/inputs.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(list: &Json) -> Vec<f64> {
    let list = list.as_array().unwrap();
    list.iter().map(|number| number.as_f64().unwrap()).collect()
}

fn value_type(name: &Json) -> ValueType {
    match name.as_str().unwrap() {
        "uint8" => ValueType::U8,
        "uint16" => ValueType::U16,
        "int8" => ValueType::I8,
        "float16" => ValueType::F16,
        "float32" => ValueType::F32,
        other => panic!("{other}"),
    }
}

/// Makes the images of a vector, as `about` in the file says.
fn images_of(case: &Json, key: &InputKey, n: usize, shape: &[usize]) -> Values {
    let of = value_type(&case["dtype"]);
    let Some(start) = case["pattern"].as_u64() else {
        return Values::of(of, numbers(&case["images"]).into_iter());
    };
    let spec = key.spec();
    let value = |i: usize| {
        let p = (31 * i + (i >> 8) + start as usize) % 256;
        let integer = match of {
            ValueType::I8 => return p as f64 - 128.0,
            ValueType::U16 if !spec.has(Transform::Ffx) => (257 * p + i) % 65536,
            _ => p,
        };
        if !matches!(of, ValueType::F16 | ValueType::F32) {
            return integer as f64;
        }
        let (low, high) = spec.range;
        let pixel = low + (high - low) * p as f64 / 255.0;
        if !case["normalised"].as_bool().unwrap() {
            return pixel;
        }
        let channel = match spec.layout {
            Layout::Nchw => i / (shape[shape.len() - 1] * shape[shape.len() - 2]),
            Layout::Nhwc => i,
        };
        let (m, s) = spec.statistics()[channel % spec.channels as usize];
        (pixel - m) / s
    };
    Values::of(of, (0..n).map(value))
}

#[test]
fn arrays_are_those_of_the_reference() {
    for case in vectors()["arrays"].as_array().unwrap() {
        let what = &case["what"];
        let key = InputKey::from_text(case["key"].as_str().unwrap()).unwrap();
        let shape: Vec<usize> = numbers(&case["shape"])
            .iter()
            .map(|n| *n as usize)
            .collect();
        let n = shape.iter().product();
        let images = images_of(case, &key, n, &shape);
        let scale = if case["normalised"].as_bool().unwrap() {
            Scale::Normalised
        } else {
            Scale::Pixels
        };
        let cipher = key.cipher_for(&shape).unwrap();
        let mut keyed = Values::zeros(value_type(&case["keyed_dtype"]), n);
        cipher
            .apply(images.images(), keyed.images_mut(), scale)
            .unwrap();
        if let Some(digest) = case["keyed_sha256"].as_str() {
            let hex: String = Sha256::digest(keyed.bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(hex, digest, "{what}");
        }
        let found = keyed.numbers();
        let largest = found.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        let near = match (case["exact"].as_bool().unwrap(), &keyed) {
            (true, _) => 0.0,
            (_, Values::F16(_)) => 1e-3 * largest,
            _ => 1e-6 * largest,
        };
        let compare = |found: &[f64], wanted: &Json| {
            // A number of the file is what NumPy prints of a single or a half.
            let wanted = Values::of(
                value_type(&case["keyed_dtype"]),
                numbers(wanted).into_iter(),
            );
            let wanted = wanted.numbers();
            assert_eq!(found.len(), wanted.len(), "{what}");
            for (found, wanted) in found.iter().zip(wanted) {
                assert!((found - wanted).abs() <= near, "{what}: {found} {wanted}");
            }
        };
        if !case["keyed"].is_null() {
            compare(&found, &case["keyed"]);
        }
        if !case["keyed_first"].is_null() {
            compare(&found[..16], &case["keyed_first"]);
            compare(&found[n - 16..], &case["keyed_last"]);
        }
        let mut back = Values::zeros(value_type(&case["dtype"]), n);
        cipher
            .invert(keyed.images(), back.images_mut(), scale)
            .unwrap();
        near_enough(&back, &images, what.as_str().unwrap());
    }
}

/// Compares integers exactly, and floats nearly.
fn near_enough(found: &Values, wanted: &Values, what: &str) {
    let near = match found {
        Values::F16(_) => 4e-3,
        Values::F32(_) => 2e-6,
        _ => return assert_eq!(found, wanted, "{what}"),
    };
    let (found, wanted) = (found.numbers(), wanted.numbers());
    let largest = wanted.iter().fold(1.0, |most: f64, v| most.max(v.abs()));
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= near * largest, "{what}");
    }
}

fn key(transforms: &[Transform], block: u32, channels: u32, layout: Layout) -> InputKey {
    InputKey::generate(Spec {
        transforms: transforms.to_vec(),
        block,
        channels,
        layout,
        order: Order::Rgb,
        range: (0.0, 1.0),
        normalisation: Some(Normalisation {
            mean: vec![0.4],
            std: vec![0.25],
        }),
    })
    .unwrap()
}

#[test]
fn what_is_done_is_undone() {
    use Transform::{Ffx, Negative, Orthogonal, Shuffle};
    let lists: [&[Transform]; 6] = [
        &[Shuffle],
        &[Negative],
        &[Shuffle, Negative],
        &[Ffx],
        &[Shuffle, Ffx],
        &[Orthogonal],
    ];
    // Blocks of 1, 3, 7 and 64; a core's images, and a few more.
    let sizes: [(u32, u32, usize, usize, usize); 7] = [
        (1, 3, 5, 7, 3),
        (3, 1, 6, 9, 1),
        (7, 2, 7, 21, 2),
        (4, 3, 8, 2052, 5),
        (16, 3, 32, 48, 2),
        (64, 5, 64, 128, 1),
        (64, 16, 64, 64, 1),
    ];
    for (transforms, (block, channels, rows, columns, n)) in lists
        .into_iter()
        .flat_map(|list| sizes.map(|size| (list, size)))
    {
        let is_large = block * block * channels > 300;
        if transforms.contains(&Orthogonal) && is_large {
            continue;
        }
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let key = key(transforms, block, channels, layout);
            let cipher = key.cipher(rows, columns).unwrap();
            let len = cipher.image_values() * n;
            for of in ValueType::ALL {
                let pixel = |i: usize| {
                    let p = (i * 31 + (i >> 8)) % 256;
                    match of {
                        ValueType::I8 => p as f64 - 128.0,
                        ValueType::F16 | ValueType::F32 => p as f64 / 255.0,
                        _ => p as f64,
                    }
                };
                let images = Values::of(of, (0..len).map(pixel));
                let what = format!("{transforms:?} {block} {channels} {layout:?} {of}");
                let mut keyed_types = key.keyed_types(of).to_vec();
                if is_large {
                    keyed_types.truncate(1);
                }
                for into in keyed_types {
                    let is_normal = matches!(of, ValueType::F16 | ValueType::F32) && into == of;
                    for scale in [Scale::Pixels, Scale::Normalised] {
                        if scale == Scale::Normalised && !is_normal {
                            continue;
                        }
                        let images = match scale {
                            Scale::Pixels => images.clone(),
                            Scale::Normalised => {
                                let numbers = images.numbers().into_iter();
                                Values::of(of, numbers.map(|v| (v - 0.4) / 0.25))
                            }
                        };
                        let mut keyed = Values::zeros(into, len);
                        cipher
                            .apply(images.images(), keyed.images_mut(), scale)
                            .unwrap();
                        // A permutation of few things may be the identity.
                        if transforms != [Shuffle] {
                            assert_ne!(keyed.numbers(), images.numbers(), "{what}");
                        }
                        if into == of {
                            let mut place = images.clone();
                            cipher.apply_in_place(place.images_mut(), scale).unwrap();
                            assert_eq!(place, keyed, "{what}");
                        }
                        if !key.plain_types(into).contains(&of) {
                            continue;
                        }
                        let mut back = Values::zeros(of, len);
                        cipher
                            .invert(keyed.images(), back.images_mut(), scale)
                            .unwrap();
                        near_enough(&back, &images, &what);
                        if into == of {
                            cipher.invert_in_place(keyed.images_mut(), scale).unwrap();
                            assert_eq!(keyed, back, "{what}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn floats_are_moved_bit_for_bit() {
    let key = key(&[Transform::Shuffle], 4, 1, Layout::Nchw);
    let cipher = key.cipher(4, 4).unwrap();
    let bits: Vec<u32> = (0..16).map(|i| 0x7F80_0001 + (i << 27)).collect();
    let images: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
    let mut keyed = images.clone();
    cipher
        .apply(&images[..], &mut keyed[..], Scale::Pixels)
        .unwrap();
    let mut found: Vec<u32> = keyed.iter().map(|value| value.to_bits()).collect();
    assert_ne!(found, bits);
    found.sort_unstable();
    let mut bits = bits;
    bits.sort_unstable();
    assert_eq!(found, bits);
}

fn reason<T>(result: Result<T>) -> String {
    match result.map(drop) {
        Err(Error::Array { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn shapes_that_do_not_fit() {
    let shuffle = key(&[Transform::Shuffle], 4, 3, Layout::Nchw);
    for (shape, wanted) in [
        (&[3, 8][..], "2 axes, not 3"),
        (&[1, 2, 3, 8, 8], "5 axes"),
        (
            &[8, 8, 3],
            "8 channels, and the key is for 3 (its layout: channels, rows, columns)",
        ),
        (&[2, 1, 8, 8], "has 1 channel,"),
        (
            &[3, 8, 10],
            "8 rows and 10 columns cannot be divided into blocks of 4 x 4",
        ),
        (&[3, 9, 8], "9 rows"),
        (&[3, usize::MAX - 3, usize::MAX - 3], "pixels is too large"),
        (&[3, 1 << 34, 1 << 20], "pixels is too large"),
    ] {
        let reason = reason(shuffle.cipher_for(shape));
        assert!(reason.contains(wanted), "{reason}");
    }
    let cipher = shuffle.cipher(8, 8).unwrap();
    let (images, mut keyed) = ([0_u8; 193], [0_u8; 192]);
    let all = cipher.apply(&images[..], &mut keyed[..], Scale::Pixels);
    assert!(reason(all).contains("no whole images of 8 x 8 x 3"));
    let fewer = cipher.apply(&[0_u8; 384][..], &mut keyed[..], Scale::Pixels);
    assert!(reason(fewer).contains("384 values do not become 192"));
    let none = shuffle.cipher(0, 8).unwrap();
    assert!(
        none.apply_in_place(&mut [0_u8; 0][..], Scale::Pixels)
            .is_ok()
    );
    assert!(
        none.apply_in_place(&mut [0_u8; 1][..], Scale::Pixels)
            .is_err()
    );
}

#[test]
fn types_that_do_not_fit() {
    let ffx = key(&[Transform::Ffx], 4, 3, Layout::Nchw)
        .cipher(4, 4)
        .unwrap();
    let mut bytes = [0_u8; 48];
    assert!(reason(ffx.apply_in_place(&mut bytes[..], Scale::Pixels)).contains("u16 or f32"));
    let halves = reason(ffx.apply_in_place(&mut [f16::ZERO; 48][..], Scale::Pixels));
    assert_eq!(
        halves,
        "ffx does not go with values of type f16, only with u8 or u16 or f32"
    );
    let orthogonal = key(&[Transform::Orthogonal], 4, 3, Layout::Nchw);
    let orthogonal = orthogonal.cipher(4, 4).unwrap();
    let integers = reason(orthogonal.apply_in_place(&mut bytes[..], Scale::Pixels));
    assert!(integers.contains("only with f16 or f32"), "{integers}");
    let negative = key(&[Transform::Negative], 4, 3, Layout::Nchw);
    let negative = negative.cipher(4, 4).unwrap();
    let other = negative.apply(&[0_u8; 48][..], &mut [0_u16; 48][..], Scale::Pixels);
    assert!(reason(other).contains("u8 become u8, not u16"));
    let integers = negative.apply_in_place(&mut bytes[..], Scale::Normalised);
    assert!(reason(integers).contains("not normalised"));
}

#[test]
fn what_ffx_refuses_stays_as_it_was() {
    let key = key(&[Transform::Shuffle, Transform::Ffx], 4, 3, Layout::Nchw);
    let cipher = key.cipher(4, 4).unwrap();
    let mut values = [7_u16; 96];
    values[90] = 256;
    let before = values;
    assert!(
        reason(cipher.apply_in_place(&mut values[..], Scale::Pixels)).contains("256 is no pixel")
    );
    assert_eq!(values, before);
    let mut floats = [0.0_f32; 48];
    for bad in [0.5, -0.1, 1.1, f32::NAN, f32::INFINITY] {
        floats[5] = bad;
        assert!(
            cipher
                .apply_in_place(&mut floats[..], Scale::Pixels)
                .is_err()
        );
    }
    // Of thousand numbers few are pixels, and 256 are made.
    let (mut made, mut bytes) = ([0_u16; 48], [0_u8; 48]);
    cipher
        .apply(&[9_u8; 48][..], &mut made[..], Scale::Pixels)
        .unwrap();
    for bad in [1000, 65535] {
        let mut made = made;
        made[3] = bad;
        let result = cipher.invert(&made[..], &mut bytes[..], Scale::Pixels);
        assert!(reason(result).contains("nothing that ffx makes"));
    }
    // 300 is either above all pixels, or stands for one at a masked place.
    let refused = (0..48).filter(|i| {
        let mut made = made;
        made[*i] = 300;
        cipher
            .invert(&made[..], &mut bytes[..], Scale::Pixels)
            .is_err()
    });
    assert!(refused.count() >= 24);
}
