//! Against `fixtures/vectors/tiers.json`, and against plain ways to say the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::single_range_in_vec_init)]

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::keys::DataKey;
use crate::tests::vectors::{self, hex, list, plain};

const AT: ChunkId = ChunkId { file: 1, chunk: 2 };
const WHOLE: [u8; 8] = [0xFF; 8];

/// The masks as the format has them, as little-endian elements.
const MASKS: [(&str, &[u8]); 4] = [
    ("FLOAT", &0x807F_FFFF_u32.to_le_bytes()),
    ("FLOAT16", &0x83FF_u16.to_le_bytes()),
    ("BFLOAT16", &0x807F_u16.to_le_bytes()),
    ("DOUBLE", &0x800F_FFFF_FFFF_FFFF_u64.to_le_bytes()),
];

fn tier_key(key: &[u8; 32], manifest: &[u8]) -> TierKey {
    TierKey::new(&derive::tier_keys(&Secret::copy(key), manifest).unwrap()).unwrap()
}

fn load(part: &str) -> Value {
    vectors::load("tiers.json")[part].take()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    let number = value.as_u64().unwrap();
    T::try_from(number).unwrap_or_else(|_| panic!("{number}"))
}

fn at(value: &Value) -> ChunkId {
    ChunkId {
        file: number(&value["file"]),
        chunk: number(&value["chunk"]),
    }
}

fn secret(value: &Value) -> Secret {
    match value {
        Value::Null => Secret::copy(&[0; 32]),
        digits => Secret::copy(&hex(digits).try_into().unwrap()),
    }
}

/// The keys that a vector names; what it does not name is 0.
fn key(value: &Value) -> TierKey {
    let stream = secret(&value["stream_key"]);
    TierKey {
        auth: Gcm::new(&secret(&value["auth_key"])).unwrap(),
        stream: Aes256::new(stream.expose().into()),
        long: Ctr::new(&stream).unwrap(),
        shuffle: Ctr::new(&secret(&value["shuffle_key"])).unwrap(),
    }
}

/// A key with nothing to do with the vectors.
fn some_key() -> TierKey {
    tier_key(&[7; 32], b"{}")
}

/// The mask from `place` of the element on, as the calls take it.
fn mask_from(mask: &[u8], place: usize) -> [u8; 8] {
    std::array::from_fn(|i| mask[(place + i) % mask.len()])
}

fn apply(key: &TierKey, at: ChunkId, bytes: &mut [u8], runs: &[(Range<usize>, [u8; 8])]) {
    key.apply_stream(at, bytes, runs.iter().cloned(), &mut Scratch::new())
        .unwrap();
}

/// The stream of a chunk, as XORed into zeros.
fn stream(key: &TierKey, at: ChunkId, range: Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; range.end];
    apply(key, at, &mut bytes, &[(range.clone(), WHOLE)]);
    assert!(bytes[..range.start].iter().all(|&byte| byte == 0));
    bytes.split_off(range.start)
}

#[test]
fn chains_equal_the_vectors() {
    for chain in list(&load("chains")) {
        let tiers: u8 = number(&chain["tiers"]);
        let highest = DataKey(secret(&chain["highest"]));
        let keys = highest.with_lower(tiers, tiers).unwrap();
        assert_eq!(keys.len(), usize::from(tiers));
        for (key, expected) in keys.iter().zip(list(&chain["keys"])) {
            assert_eq!(key.expose()[..], hex(expected), "{tiers} tiers");
        }
    }
}

#[test]
fn derived_keys_and_macs_equal_the_vectors() {
    let derived = load("derived");
    let manifest = hex(&derived["manifest"]);
    let macs = load("macs");
    assert_eq!(hex(&macs["manifest"]), manifest);
    let tags = hex(&macs["tags"]);
    let expected: Vec<Vec<u8>> = list(&macs["macs"]).iter().map(hex).collect();
    let tiers = list(&derived["tiers"]);
    for (t, (tier, mac)) in tiers.iter().zip(&expected).enumerate() {
        let key = secret(&tier["key"]);
        assert_eq!(
            derive::blobs_key(&key).unwrap().expose()[..],
            hex(&tier["blobs_key"])
        );
        let mac_key = derive::mac_key(&key).unwrap();
        assert_eq!(mac_key.expose()[..], hex(&tier["mac_key"]));
        let made = derive::ManifestMac::new(&mac_key, &manifest).unwrap();
        assert_eq!(made.over(&tags, &expected[t + 1..].concat())[..], mac[..]);
        if tier["tier"] == 1 {
            let chunk_key = derive::chunk_key(&key, &manifest).unwrap();
            assert_eq!(chunk_key.expose()[..], hex(&tier["chunk_key"]));
            continue;
        }
        let secrets = derive::tier_keys(&key, &manifest).unwrap();
        for (name, found) in ["auth_key", "stream_key", "shuffle_key"]
            .iter()
            .zip(&secrets)
        {
            assert_eq!(found.expose()[..], hex(&tier[*name]), "{name}");
        }
    }
    let highest = DataKey(secret(&tiers[2]["key"]));
    let seal = highest.seal_keys(&manifest, 3).unwrap();
    assert_eq!(seal.macs(&tags), expected.concat());
    assert_eq!(seal.upper.iter().len(), 2);
    for (t, tier) in (1..).zip(tiers) {
        let key = DataKey(secret(&tier["key"]));
        let open = |macs: &[u8]| key.open_keys((t, 3), &manifest, &tags, macs);
        let macs = expected.concat();
        assert_eq!(
            open(&macs).unwrap().upper(t).unwrap().len(),
            usize::from(t) - 1,
            "one for each tier from 2 up"
        );
        // The MAC of every tier counts, of the lower ones and of the higher ones.
        let flipped = (0..macs.len()).map(|at| {
            let mut macs = macs.clone();
            macs[at] ^= 1;
            macs
        });
        let cut = macs[..macs.len() - 1].to_vec();
        for wrong in flipped.chain([Vec::new(), cut, [&macs[..], &[0]].concat()]) {
            assert!(matches!(open(&wrong), Err(Error::Unauthentic)));
        }
    }
}

#[test]
fn streams_equal_the_vectors() {
    for case in list(&load("streams")) {
        let start: usize = number(&case["start"]);
        let len: usize = number(&case["len"]);
        let found = stream(&key(case), at(case), start..start + len);
        assert_eq!(found, hex(&case["stream"]), "{case}");
    }
}

#[test]
fn bytes_and_masks_equal_the_vectors() {
    let (bytes, masks) = (load("bytes"), load("masks"));
    let mut n_types = std::collections::BTreeSet::new();
    for case in list(&bytes).iter().chain(list(&masks)) {
        let start: usize = number(&case["start"]);
        let (clear, sealed) = (hex(&case["plain"]), hex(&case["sealed"]));
        assert_eq!(clear, plain(clear.len(), number(&case["seed"])));
        let mask = match case["data_type"].as_str() {
            None => WHOLE,
            Some(data_type) => {
                n_types.insert(data_type.to_owned());
                let (_, mask) = MASKS.iter().find(|(name, _)| *name == data_type).unwrap();
                assert_eq!(*mask, hex(&case["mask"]));
                mask_from(mask, number(&case["place"]))
            }
        };
        let (key, run) = (key(case), start..start + clear.len());
        let mut chunk = [&vec![0xA5; start][..], &clear, &[0xA5; 3]].concat();
        let before = chunk.clone();
        apply(&key, at(case), &mut chunk, &[(run.clone(), mask)]);
        assert_eq!(chunk[run.clone()], sealed, "{case}");
        assert!(chunk[..start] == before[..start] && chunk[run.end..] == before[run.end..]);
        apply(&key, at(case), &mut chunk, &[(run, mask)]);
        assert!(chunk == before, "twice is nothing");
    }
    assert_eq!(n_types.len(), MASKS.len());
}

fn draws(key: &TierKey, id: ChunkId, n: usize) -> Vec<u32> {
    // However much of the stream is made at a time.
    let of_pieces = |n_blocks: usize| {
        let (mut draws, mut piece) = (vec![0; n - 1], vec![0; n_blocks * BLOCK]);
        key.draw(derive::nonce(id), &mut draws, &mut piece).unwrap();
        draws
    };
    let draws = of_pieces(1);
    assert!(draws == of_pieces(3) && draws == of_pieces(PIECE / BLOCK));
    draws
}

/// The order of elements that a permutation of numbers `0..m` gives, as the vectors write it.
fn order(key: &TierKey, case: &Value, m: usize) -> Vec<u32> {
    let mut bytes: Vec<u8> = (0..m as u32).flat_map(u32::to_le_bytes).collect();
    let runs = [0..bytes.len()];
    let place = (number(&case["tensor"]), number(&case["chunk"]));
    key.shuffle(
        place,
        &mut bytes,
        (&runs, 4),
        Direction::Seal,
        &mut Scratch::new(),
    )
    .unwrap();
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|n| u32::from_le_bytes(*n)).collect()
}

#[test]
fn shuffles_equal_the_vectors() {
    let as_numbers = |value: &Value| list(value).iter().map(number).collect::<Vec<u32>>();
    let digest = |numbers: &[u32]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        Sha256::digest(bytes).to_vec()
    };
    let mut n_dropped = 0;
    for case in list(&load("shuffles")) {
        let (key, m) = (key(case), number::<usize>(&case["elements"]));
        n_dropped += number::<usize>(&case["dropped"]);
        let (tensor, chunk) = (number(&case["tensor"]), number(&case["chunk"]));
        let id = ChunkId {
            file: tensor,
            chunk,
        };
        let draws = draws(&key, id, m);
        let order = order(&key, case, m);
        if case["draws"].is_array() {
            assert_eq!(draws[..], as_numbers(&case["draws"]), "{m} of {chunk}");
            assert_eq!(order, as_numbers(&case["order"]), "{m} of {chunk}");
        } else {
            assert_eq!(digest(&draws), hex(&case["draws_sha256"]));
            assert_eq!(digest(&order), hex(&case["order_sha256"]));
            continue;
        }
        for (width, sealed) in case["sealed"].as_object().unwrap() {
            let width: usize = width.parse().unwrap();
            let before = plain(m * width, 0);
            // In one run, and in as many as there are elements, with a byte between them.
            let mut bytes = before.clone();
            let mut spread = vec![0xEE; m * (width + 1)];
            let runs: Vec<_> = (0..m)
                .map(|i| i * (width + 1)..i * (width + 1) + width)
                .collect();
            gather::scatter(&before, runs.iter().cloned(), &mut spread);
            let spread_before = spread.clone();
            let shuffle = |bytes: &mut [u8], runs: &[Range<usize>], direction| {
                let (place, of) = ((tensor, chunk), (runs, width));
                key.shuffle(place, bytes, of, direction, &mut Scratch::new())
                    .unwrap();
            };
            let one = [0..bytes.len()];
            shuffle(&mut bytes, &one, Direction::Seal);
            assert_eq!(Sha256::digest(&bytes)[..], hex(sealed), "width {width}");
            shuffle(&mut spread, &runs, Direction::Seal);
            let mut gathered = vec![0; bytes.len()];
            gather::gather(&spread, runs.iter().cloned(), &mut gathered);
            assert_eq!(gathered, bytes);
            shuffle(&mut bytes, &one, Direction::Open);
            shuffle(&mut spread, &runs, Direction::Open);
            assert!(bytes == before && spread == spread_before, "width {width}");
        }
    }
    assert!(n_dropped > 0);
}

#[test]
fn tags_equal_the_vectors() {
    for case in list(&load("tags")) {
        let (key, auth) = (key(case), secret(&case["auth_key"]));
        let stored = plain(number(&case["len"]), number(&case["seed"]));
        let tag = Tag(hex(&case["tag"]).try_into().unwrap());
        assert_eq!(key.tag(at(case), &stored).unwrap(), tag);
        let gcm = Gcm::new(&auth).unwrap();
        let verify = |at, stored: &[u8], tag: &_| gcm.open(derive::nonce(at), stored, &mut [], tag);
        verify(at(case), &stored, &tag).unwrap();
        let refused = |at: ChunkId, stored: &[u8], tag: &Tag| {
            let fault = verify(at, stored, tag);
            assert!(matches!(fault, Err(Error::Unauthentic)), "{fault:?}");
        };
        for bit in [0, 7, stored.len() * 4, stored.len() * 8 - 1] {
            let mut other = stored.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            refused(at(case), &other, &tag);
        }
        refused(at(case), &stored[1..], &tag);
        refused(at(case), &[&stored[..], &[0]].concat(), &tag);
        for bit in 0..128 {
            let mut other = tag;
            other.0[bit / 8] ^= 1 << (bit % 8);
            refused(at(case), &stored, &other);
        }
        let ChunkId { file, chunk } = at(case);
        for elsewhere in [
            (file ^ 1, chunk),
            (file, chunk ^ 1),
            (chunk as u32, file.into()),
        ] {
            let elsewhere = ChunkId {
                file: elsewhere.0,
                chunk: elsewhere.1,
            };
            if elsewhere != at(case) {
                refused(elsewhere, &stored, &tag);
            }
        }
    }
}

/// The parts of a vector's chunk for each call.
struct Parts {
    first: Vec<Range<usize>>,
    /// By tier from 2 up.
    streams: [Vec<(Range<usize>, [u8; 8])>; 2],
    /// `(tier, tensor, width, runs)`
    shuffled: Vec<(usize, u32, usize, Vec<Range<usize>>)>,
}

fn parts(pieces: &[Value], len: usize) -> Parts {
    let mut parts = Parts {
        first: Vec::new(),
        streams: [Vec::new(), Vec::new()],
        shuffled: Vec::new(),
    };
    for piece in pieces {
        let (tier, width): (usize, usize) =
            (number(&piece["tier"]), number(&piece["element_bytes"]));
        let elements = list(&piece["elements"]).iter().map(number::<usize>);
        let elements = elements.map(|at| at..(at + width).min(len));
        if tier == 1 {
            parts.first.extend(elements);
            continue;
        }
        let data_type = piece["data_type"].as_str().unwrap();
        let mask = MASKS.iter().find(|(name, _)| *name == data_type);
        let mask = match piece["mode"].as_str().unwrap() {
            "mask" => mask_from(mask.unwrap().1, 0),
            _ => WHOLE,
        };
        let (mut whole, mut rest): (Vec<_>, Vec<_>) = elements.partition(|run| run.len() == width);
        if piece["mode"] != "shuffle" || whole.len() < MIN_SHUFFLED {
            whole.append(&mut rest);
            rest = std::mem::take(&mut whole);
        }
        parts.streams[tier - 2].extend(rest.into_iter().map(|run| (run, mask)));
        if !whole.is_empty() {
            let tensor = number(&piece["tensor"]);
            parts.shuffled.push((tier, tensor, width, whole));
        }
    }
    for streams in &mut parts.streams {
        streams.sort_by_key(|(run, _)| run.start);
    }
    parts
}

#[test]
fn whole_chunks_equal_the_vectors() {
    let derived = load("derived");
    let manifest = hex(&derived["manifest"]);
    let highest = || DataKey(secret(&derived["tiers"][2]["key"]));
    let seal = highest().seal_keys(&manifest, 3).unwrap();
    let mut scratch = Scratch::new();
    for case in list(&load("chunks")) {
        let before = hex(&case["plain"]);
        let (at, parts) = (at(case), parts(list(&case["pieces"]), before.len()));
        let mut bytes = before.clone();
        let apply = |keys: &[&TierKey], bytes: &mut [u8], direction| {
            for (key, streams) in keys.iter().zip(&parts.streams) {
                apply(key, at, bytes, streams);
            }
            for (tier, tensor, width, runs) in &parts.shuffled {
                if let Some(key) = keys.get(tier - 2) {
                    let place = (*tensor, at.chunk);
                    let of = (&runs[..], *width);
                    key.shuffle(place, bytes, of, direction, &mut Scratch::new())
                        .unwrap();
                }
            }
        };
        let upper: Vec<&TierKey> = seal.upper.iter().collect();
        apply(&upper, &mut bytes, Direction::Seal);
        assert_eq!(bytes, hex(&case["after_step_1"]));
        let first = seal.seal_chunk(at, &mut bytes, &parts.first, &mut scratch);
        let mut tags = vec![first.unwrap()];
        assert_eq!(bytes, hex(&case["stored"]));
        tags.extend(upper.iter().map(|key| key.tag(at, &bytes).unwrap()));
        let expected: Vec<Vec<u8>> = list(&case["tags"]).iter().map(hex).collect();
        assert!(
            tags.iter()
                .map(|tag| &tag.0[..])
                .eq(expected.iter().map(|tag| &tag[..]))
        );

        // What each tier's reader makes of it.
        let all_tags: Vec<u8> = tags.iter().flat_map(|tag| tag.0).collect();
        let macs = seal.macs(&all_tags);
        let keys = highest().with_lower(3, 3).unwrap();
        for (tier, key) in (1u8..).zip(&keys) {
            let open = key
                .open_keys((tier, 3), &manifest, &all_tags, &macs)
                .unwrap();
            let mut opened = bytes.clone();
            let tag = &tags[usize::from(tier) - 1];
            for other in tags.iter().filter(|other| *other != tag) {
                let refused = open.open_chunk(at, &mut opened, &parts.first, other, &mut scratch);
                assert!(matches!(refused, Err(Error::Unauthentic)));
                assert_eq!(opened, bytes);
            }
            open.open_chunk(at, &mut opened, &parts.first, tag, &mut scratch)
                .unwrap();
            let keys = open.upper(tier).unwrap();
            let keys: Vec<&TierKey> = keys.iter().collect();
            apply(&keys, &mut opened, Direction::Open);
            assert_eq!(opened == before, tier == 3);
            for piece in list(&case["pieces"]) {
                let width: usize = number(&piece["element_bytes"]);
                for start in list(&piece["elements"]).iter().map(number::<usize>) {
                    let run = start..(start + width).min(before.len());
                    if number::<u8>(&piece["tier"]) <= tier {
                        assert_eq!(opened[run.clone()], before[run], "{piece}");
                    } else {
                        assert_eq!(opened[run.clone()], bytes[run], "{piece}");
                    }
                }
            }
        }
    }
}

/// A mask as the format says it: byte by byte.
#[test]
fn runs_of_every_length_and_place_are_masked_alike() {
    let key = some_key();
    let whole = stream(&key, AT, 0..3 * PIECE);
    let before = plain(3 * PIECE, 3);
    for (name, mask) in MASKS {
        for start in [
            0,
            1,
            7,
            8,
            15,
            16,
            17,
            PIECE - 1,
            PIECE,
            PIECE + 1,
            2 * PIECE - 3,
        ] {
            let lens = [
                1,
                2,
                3,
                7,
                8,
                9,
                15,
                16,
                17,
                31,
                100,
                PIECE - 1,
                PIECE,
                PIECE + 1,
            ];
            for (len, place) in lens.into_iter().zip((0..mask.len()).cycle()) {
                let run = start..(start + len).min(before.len());
                let mut bytes = before.clone();
                apply(
                    &key,
                    AT,
                    &mut bytes,
                    &[(run.clone(), mask_from(mask, place))],
                );
                for (i, (found, was)) in bytes.iter().zip(&before).enumerate() {
                    let expected = if run.contains(&i) {
                        was ^ (whole[i] & mask[(place + i - start) % mask.len()])
                    } else {
                        *was
                    };
                    assert_eq!(*found, expected, "{name} {run:?} from {place}, byte {i}");
                }
            }
        }
    }
}

/// The stream of any part of a chunk is a part of the stream of the whole.
#[test]
fn many_runs_are_as_one() {
    let key = some_key();
    let len = 5 * PIECE + 77;
    let one = stream(&key, AT, 0..len);
    for step in [1, 3, 16, 63, PIECE, PIECE + 5] {
        let mut bytes = vec![0; len];
        let runs: Vec<_> = (0..len)
            .step_by(step)
            .map(|start| (start..(start + step).min(len), WHOLE))
            .collect();
        apply(&key, AT, &mut bytes, &runs);
        assert!(bytes == one, "runs of {step}");
        // From the end to the start is the same.
        let mut bytes = vec![0; len];
        let back: Vec<_> = runs.into_iter().rev().collect();
        apply(&key, AT, &mut bytes, &back);
        assert!(bytes == one, "runs of {step}, backwards");
    }
}

#[test]
fn streams_differ_by_key_manifest_and_place() {
    let keys = [
        tier_key(&[7; 32], b"{}"),
        tier_key(&[8; 32], b"{}"),
        tier_key(&[7; 32], b"{ }"),
    ];
    let mut found = Vec::new();
    for key in &keys {
        for (file, chunk) in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 1 << 32)] {
            found.push(stream(key, ChunkId { file, chunk }, 0..48));
            // Neither stream is the other's.
            let draws = draws(key, ChunkId { file, chunk }, 49);
            found.push(draws.iter().map(|&draw| draw as u8).collect());
        }
    }
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), found.len());
}

#[test]
fn a_finite_number_stays_finite_under_a_mask() {
    let key = some_key();
    // Every FLOAT16 and BFLOAT16, and FLOATs and DOUBLEs of every exponent.
    let all16: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let all32: Vec<u8> = (0..=0xFFF_u32)
        .flat_map(|high| (high << 20 | 0x55_5555).to_le_bytes())
        .collect();
    let all64: Vec<u8> = (0..=0xFFFF_u64)
        .flat_map(|high| (high << 48 | 0x5555_5555_5555).to_le_bytes())
        .collect();
    let exponents: [(&str, &[u8], u64); 4] = [
        ("FLOAT16", &all16, 0x7C00),
        ("BFLOAT16", &all16, 0x7F80),
        ("FLOAT", &all32, 0x7F80_0000),
        ("DOUBLE", &all64, 0x7FF0 << 48),
    ];
    for (name, before, exponent) in exponents {
        let (_, mask) = MASKS.iter().find(|(of, _)| *of == name).unwrap();
        let mut bytes = before.to_vec();
        apply(
            &key,
            AT,
            &mut bytes,
            &[(0..before.len(), mask_from(mask, 0))],
        );
        assert!(bytes != before);
        let wide = |element: &[u8]| {
            let mut wide = [0; 8];
            wide[..element.len()].copy_from_slice(element);
            u64::from_le_bytes(wide)
        };
        let width = mask.len();
        for (found, was) in bytes.chunks(width).zip(before.chunks(width)) {
            assert_eq!(wide(found) & exponent, wide(was) & exponent, "{name}");
        }
    }
}

#[test]
fn few_elements_and_none_are_shuffled() {
    let key = some_key();
    let mut scratch = Scratch::new();
    for m in [0usize, 1, 2, 3, 63, 64, 65, 1023, 1024, 1025] {
        for width in [1, 2, 4, 8, 16] {
            let before = plain(m * width + 5, 1);
            let mut bytes = before.clone();
            let runs: Vec<Range<usize>> = match m {
                0 => vec![],
                _ => vec![5..5 + m * width],
            };
            let mut go = |bytes: &mut [u8], direction| {
                key.shuffle((0, 0), bytes, (&runs, width), direction, &mut scratch)
                    .unwrap();
            };
            go(&mut bytes, Direction::Seal);
            assert!(bytes[..5] == before[..5]);
            assert_eq!(bytes == before, m < 2 || m == 2 && bytes == before);
            go(&mut bytes, Direction::Open);
            assert!(bytes == before, "{m} elements of {width}");
        }
    }
}

/// 3 elements have 6 orders: each is drawn about as often as any other.
#[test]
fn orders_are_equally_likely() {
    let key = some_key();
    let mut counts = std::collections::BTreeMap::new();
    for chunk in 0..6000 {
        let mut bytes = [1, 2, 3];
        key.shuffle(
            (0, chunk),
            &mut bytes,
            (&[0..3], 1),
            Direction::Seal,
            &mut Scratch::new(),
        )
        .unwrap();
        *counts.entry(bytes).or_insert(0u32) += 1;
    }
    assert_eq!(counts.len(), 6);
    // Five standard deviations, of 29 each.
    assert!(
        counts.values().all(|n| n.abs_diff(1000) < 145),
        "{counts:?}"
    );
}

#[test]
fn illegal_runs_are_misuse_and_change_nothing() {
    let key = some_key();
    let before = plain(64, 1);
    let mut bytes = before.clone();
    let mut scratch = Scratch::new();
    for runs in [
        &[60..65][..],
        &[100..101],
        &[0..1, 64..65],
        &[usize::MAX - 1..usize::MAX],
    ] {
        let runs = runs.iter().map(|run| (run.clone(), WHOLE));
        let fault = key.apply_stream(AT, &mut bytes, runs, &mut scratch);
        assert!(matches!(fault, Err(Error::Misuse { .. })));
    }
    for (runs, width) in [
        (&[60..68][..], 4),
        (&[0..8, 4..12], 4),
        (&[8..12, 0..4], 4),
        (&[4..4], 4),
        (&[0..6], 4),
        (&[0..6], 3),
        (&[0..8], 0),
        (&[0..32], 32),
    ] {
        let fault = key.shuffle(
            (0, 0),
            &mut bytes,
            (runs, width),
            Direction::Seal,
            &mut scratch,
        );
        assert!(
            matches!(fault, Err(Error::Misuse { .. })),
            "{runs:?} of {width}"
        );
    }
    assert!(bytes == before);
}

#[test]
fn a_key_prints_nothing() {
    assert_eq!(format!("{:?}", some_key()), "TierKey(..)");
}
