//! Renaming external files, and undoing that: of random models, encoded in ways that no library
//! would.

use std::collections::HashMap;

use onnxseal_onnx::edit::{Edits, rename_external};
use onnxseal_onnx::model::{FileId, Payload};
use onnxseal_onnx::{Error, Limits, locate};
use onnxseal_testkit::wire::{self, varint};

/// Random models; all that is random comes from the seed.
struct Random(u64);

const LOCATIONS: [&str; 4] = ["w.bin", "./w.bin", "a//b.data", "a/b.data"];

impl Random {
    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// A varint, often longer than it need be.
    fn number(&mut self, value: u64) -> Vec<u8> {
        let mut out = varint(value);
        if self.below(3) == 0 {
            for _ in 0..=self.below(3) {
                *out.last_mut().unwrap() |= 0x80;
                out.push(0);
            }
        }
        out
    }

    fn field(&mut self, number: u64, value: &[u8]) -> Vec<u8> {
        let mut out = self.number(number << 3 | 2);
        out.extend(self.number(value.len() as u64));
        out.extend(value);
        out
    }

    /// Some fields, in any order, with unknown ones between.
    fn message(&mut self, mut fields: Vec<Vec<u8>>) -> Vec<u8> {
        if self.below(3) == 0 {
            let len = self.below(200) as usize;
            fields.push(self.field(100, &vec![0x72; len]));
        }
        for i in (1..fields.len()).rev() {
            let other = self.below(i as u64 + 1) as usize;
            fields.swap(i, other);
        }
        fields.concat()
    }

    fn entry(&mut self, key: &str, value: &str) -> Vec<u8> {
        let fields = [(1, key), (2, value)].map(|(n, text)| self.field(n, text.as_bytes()));
        let entry = self.message(fields.to_vec());
        self.field(13, &entry)
    }

    fn tensor(&mut self) -> Vec<u8> {
        let n = 1 + self.below(40);
        let name = "n".repeat(self.below(130) as usize);
        let mut fields = vec![
            wire::varint_field(1, n),
            wire::varint_field(2, 1),
            self.field(8, name.as_bytes()),
        ];
        if self.below(4) == 0 {
            fields.push(self.field(9, &vec![7; 4 * n as usize]));
        } else {
            let location = LOCATIONS[self.below(4) as usize];
            fields.push(wire::varint_field(14, 1));
            fields.push(self.entry("location", location));
            if self.below(2) == 0 {
                fields.push(self.entry("offset", "4096"));
            }
            if self.below(2) == 0 {
                // Not what names the file.
                fields.push(self.entry("checksum", "w.bin"));
            }
        }
        self.message(fields)
    }

    fn sparse(&mut self) -> Vec<u8> {
        let (values, indices) = (self.tensor(), self.tensor());
        let fields = vec![self.field(1, &values), self.field(2, &indices)];
        self.message(fields)
    }

    fn attribute(&mut self, depth: u64) -> Vec<u8> {
        let name = self.field(1, b"value");
        let held = match self.below(6) {
            0 if depth < 3 => (6, self.graph(depth + 1)),
            1 if depth < 3 => (11, self.graph(depth + 1)),
            2 => (10, self.tensor()),
            3 => (22, self.sparse()),
            _ => (5, self.tensor()),
        };
        let held = self.field(held.0, &held.1);
        self.message(vec![name, held])
    }

    fn node(&mut self, depth: u64) -> Vec<u8> {
        let mut fields = vec![self.field(4, b"Constant"), self.field(2, b"y")];
        for _ in 0..self.below(3) {
            let attribute = self.attribute(depth);
            fields.push(self.field(5, &attribute));
        }
        self.message(fields)
    }

    fn graph(&mut self, depth: u64) -> Vec<u8> {
        let mut fields = Vec::new();
        for _ in 0..self.below(5) {
            let field = match self.below(4) {
                0 => (1, self.node(depth)),
                1 => (15, self.sparse()),
                _ => (5, self.tensor()),
            };
            fields.push(self.field(field.0, &field.1));
        }
        self.message(fields)
    }

    fn model(&mut self) -> Vec<u8> {
        let graph = self.graph(0);
        let mut fields = vec![self.field(7, &graph), wire::varint_field(1, 8)];
        if self.below(3) == 0 {
            let (node, attribute) = (self.node(1), self.attribute(1));
            let inner = vec![self.field(7, &node), self.field(11, &attribute)];
            let function = self.message(inner);
            fields.push(self.field(25, &function));
        }
        if self.below(3) == 0 {
            let graph = self.graph(1);
            let training = self.field(1, &graph);
            fields.push(self.field(20, &training));
        }
        self.message(fields)
    }
}

fn names(new: [&str; 2]) -> HashMap<String, String> {
    let old = ["w.bin", "a/b.data"];
    (old.iter().zip(new))
        .map(|(old, new)| ((*old).to_owned(), new.to_owned()))
        .collect()
}

#[test]
fn what_is_renamed_can_be_undone_and_is_the_same_model() {
    let long = "n".repeat(300);
    let mut n_edits = 0;
    for seed in 1..3000u64 {
        let original = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).model();
        let new = [
            ["b.onnx.data/w.bin", "b.onnx.data/a/b.data"],
            ["x", "y"],
            // As long as what it replaces: no length changes.
            ["W.bin", "A/b.data"],
            [&long, "z"],
        ][seed as usize % 4];
        let edits = rename_external(&original, &names(new)).unwrap();
        let edited = edits.apply(&original).unwrap();
        let undo = edits.undo(&original).unwrap();
        assert_eq!(
            edits.len_after(original.len() as u64),
            Some(edited.len() as u64)
        );
        assert!(*undo.apply(&edited).unwrap() == original, "seed {seed}");
        n_edits += undo.iter().count();
        if undo.is_empty() {
            assert!(*edited == original);
            continue;
        }
        let (numbers, texts) = (undo.numbers().to_vec(), undo.texts().to_vec());
        assert_eq!(Edits::new(numbers, texts, edited.len() as u64), Ok(undo));

        let limits = Limits::default();
        let (before, after) = (locate(&original, &limits), locate(&edited, &limits));
        let (before, after) = (before.unwrap(), after.unwrap());
        let renamed = |old: &String| names(new)[old].clone();
        let expected: Vec<String> = before.external_files.iter().map(renamed).collect();
        assert_eq!(after.external_files, expected);
        assert_eq!(before.tensors.len(), after.tensors.len());
        for (a, b) in before.tensors.iter().zip(&after.tensors) {
            assert_eq!((a.name, &a.path, &a.dims), (b.name, &b.path, &b.dims));
            assert_eq!((a.graph, a.data_type), (b.graph, b.data_type));
            match (&a.payload, &b.payload) {
                (
                    Payload::Dense {
                        file: FileId(0),
                        span: a,
                        ..
                    },
                    Payload::Dense {
                        file: FileId(0),
                        span: b,
                        ..
                    },
                ) => {
                    let [a, b] = [(a, &original), (b, &*edited)]
                        .map(|(span, bytes)| &bytes[span.start as usize..span.end() as usize]);
                    assert_eq!(a, b);
                }
                (a, b) => assert_eq!(a, b),
            }
        }
        // Nobody finds the old names any more.
        assert!(rename_external(&edited, &names(new)).unwrap().is_empty());
    }
    assert!(n_edits > 3000, "{n_edits}");
}

/// What a manifest says of edits is short where tensors are many.
#[test]
fn edits_of_one_location_share_their_texts() {
    let entry = |key, value: &str| {
        let of = [wire::field(1, key), wire::field(2, value.as_bytes())].concat();
        wire::field(13, &of)
    };
    let tensors: Vec<Vec<u8>> = (0..10_000)
        .map(|i| {
            [
                wire::varint_field(1, 1),
                wire::varint_field(2, 1),
                wire::field(8, format!("weight_{i}").as_bytes()),
                entry(b"location", "model.onnx.data"),
                entry(b"offset", &(4 * i).to_string()),
                wire::varint_field(14, 1),
            ]
            .concat()
        })
        .collect();
    let original = wire::model_of_tensors(&tensors);
    let names = HashMap::from([("model.onnx.data".to_owned(), "b".to_owned())]);
    let edits = rename_external(&original, &names).unwrap();
    let undo = edits.undo(&original).unwrap();
    assert_eq!(undo.iter().count(), 2 * 10_000 + 1);
    assert!(undo.texts().len() < 20, "{}", undo.texts().len());
}

#[test]
fn edits_that_break_a_rule_are_none() {
    let check = |numbers: &[u64], texts: &[&[u8]]| {
        let texts = texts.iter().map(|text| text.to_vec()).collect();
        Edits::new(numbers.to_vec(), texts, 10)
    };
    let edits = check(&[0, 2, 0, 3, 1, 1, 3, 1, 0], &[b"abc", b"d"]).unwrap();
    assert_eq!(edits.len_after(10), Some(13));
    assert_eq!(**edits.apply(b"0123456789").unwrap(), *b"abc234d678abc");
    assert_eq!(edits.apply(b"012345678"), None);
    assert_eq!(edits.undo(b"012345678"), None);
    let broken: [(&[u64], &[&[u8]]); 14] = [
        (&[], &[]),
        (&[0, 1], &[b"a"]),
        (&[0, 1, 0, 1], &[b"a"]),
        (&[0, 0, 0], &[b"a"]),
        (&[0, 1, 0, 0, 1, 0], &[b"a"]),
        (&[0, 1, 1], &[b"a", b"b"]),
        (&[0, 1, 0], &[]),
        (&[0, 1, 0], &[b"a", b"b"]),
        (&[0, 1, 0], &[b""]),
        (&[0, 11, 0], &[b"a"]),
        (&[9, 2, 0], &[b"a"]),
        (&[u64::MAX, u64::MAX, 0], &[b"a"]),
        (&[5, 1, 0, u64::MAX, 1, 0], &[b"a"]),
        (&[5, 1, u64::MAX], &[b"a"]),
    ];
    for (numbers, given) in broken {
        assert!(check(numbers, given).is_err(), "{numbers:?}");
    }
}

#[test]
fn models_that_are_too_deep_are_refused() {
    let refused = rename_external(&wire::nested_graphs(20_000), &HashMap::new());
    assert!(matches!(refused, Err(Error::LimitExceeded { .. })));
}
