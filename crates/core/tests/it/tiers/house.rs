//! What the tests of tiers share: a key for each tier, models with weights of every type, and
//! protected models in their parts.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_core::manifest::Tensor;
use onnxseal_core::{
    Access, Edition, Error, Identities, Manifest, OpenedModel, Policy, ProtectOptions, Recipients,
    Silent, TierRecipients, generate_identity, open, protect,
};
use onnxseal_onnx::tail;
use onnxseal_testkit::{Sample, build};
use tempfile::TempDir;

/// The smallest chunks that the format allows.
pub const CHUNK: usize = 1 << 16;

/// A folder, and a key pair for each tier.
pub struct House {
    pub dir: TempDir,
    /// The least first.
    pub names: Vec<String>,
    pub recipients: TierRecipients,
    pub public: Vec<String>,
    pub keys: Vec<Identities>,
}

/// A key of nobody yet: its public part, and its secret one.
pub fn key_pair() -> (String, Identities) {
    let identity = generate_identity();
    (identity.recipient(), Identities::from(identity))
}

impl House {
    pub fn new(n_tiers: usize) -> House {
        let names: Vec<String> = match n_tiers {
            3 => ["trial", "standard", "full"].map(str::to_owned).to_vec(),
            n => (1..=n).map(|tier| format!("t{tier}")).collect(),
        };
        let (public, keys): (Vec<_>, Vec<_>) = names.iter().map(|_| key_pair()).unzip();
        let of = |public: &String| Recipients::parse(&[public]).unwrap();
        House {
            dir: tempfile::tempdir().unwrap(),
            recipients: (names.iter().cloned().map(Some))
                .zip(public.iter().map(of))
                .collect(),
            names,
            public,
            keys,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `sample` into the folder `name` and returns the model's path.
    pub fn write(&self, sample: &Sample, name: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        sample.write(&folder).unwrap()
    }

    /// Protects a small model whole, in every mode, with several chunks. Gives its path and its
    /// parts.
    pub fn protect_small(&self) -> (PathBuf, Sealed) {
        let plain = self.write(&alone("small", small()), "plain");
        let model = self.path("sealed/model.onnx");
        self.protect(&plain, &model, self.policy("full", SMALL_MODES));
        let sealed = Sealed::read(&model);
        (model, sealed)
    }

    /// A policy with these tiers of about equal shares, and `more` lines of TOML.
    pub fn policy(&self, preset: &str, more: &str) -> Policy {
        Policy::parse(&self.policy_text(preset, more)).unwrap()
    }

    pub fn policy_text(&self, preset: &str, more: &str) -> String {
        let n = self.names.len();
        let mut text = format!("preset = \"{preset}\"\nunit = 64\n");
        for (i, name) in (1..).zip(&self.names) {
            text += &format!("[[tier]]\nname = \"{name}\"\n");
            if i < n {
                text += &format!("share = {}\n", i as f64 / n as f64);
            }
        }
        text + more
    }

    /// Protects `model` to `output` with small chunks, so that there are several.
    pub fn protect(&self, model: &Path, output: &Path, policy: Policy) {
        self.protect_with(model, output, self.options(policy));
    }

    pub fn options(&self, policy: Policy) -> ProtectOptions {
        let mut options = ProtectOptions::new(policy);
        options.chunk_bytes = CHUNK as u64;
        options
    }

    pub fn protect_with(&self, model: &Path, output: &Path, options: ProtectOptions) {
        protect(model, output, &self.recipients, &options, &Silent).unwrap();
    }

    /// Opens `model` with the key of `tier`, from 1.
    pub fn open(
        &self,
        model: &Path,
        tier: usize,
        edition: Edition<'_>,
    ) -> Result<OpenedModel, Error> {
        open(model, access(&self.keys[tier - 1], edition), &Silent)
    }

    /// The edition of `tier`, by its name.
    pub fn edition(&self, tier: usize) -> Edition<'_> {
        Edition::Tier(&self.names[tier - 1])
    }
}

pub fn access<'a>(identities: &'a Identities, edition: Edition<'a>) -> Access<'a> {
    Access {
        identities,
        signed_by: None,
        edition,
        licence: None,
    }
}

/// A protected model of one file, in its parts.
#[derive(Clone)]
pub struct Sealed {
    /// The bytes before the tail.
    pub model: Vec<u8>,
    pub manifest: Vec<u8>,
    pub tags: Vec<u8>,
    pub macs: Vec<u8>,
    pub signature: Option<String>,
    /// The wrapped keys, by tier.
    pub keys: Vec<(usize, String)>,
    pub is_locked: bool,
}

impl Sealed {
    pub fn read(path: &Path) -> Sealed {
        let bytes = fs::read(path).unwrap();
        let tail = tail::split(&bytes).unwrap().unwrap();
        let value = |key| tail.value(key).unwrap().to_owned();
        Sealed {
            model: bytes[..tail.start as usize].to_vec(),
            manifest: value(tail::MANIFEST).into_bytes(),
            tags: STANDARD.decode(value(tail::TAGS)).unwrap(),
            macs: STANDARD.decode(value(tail::MAC)).unwrap(),
            signature: tail.value(tail::SIG).map(str::to_owned),
            keys: (1..)
                .zip(tail::KEYS)
                .filter_map(|(tier, key)| Some((tier, tail.value(key)?.to_owned())))
                .collect(),
            is_locked: tail.is_locked,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let (tags, macs) = (STANDARD.encode(&self.tags), STANDARD.encode(&self.macs));
        let mut entries = vec![
            (tail::MANIFEST, &self.manifest[..]),
            (tail::TAGS, tags.as_bytes()),
            (tail::MAC, macs.as_bytes()),
        ];
        let signature = self.signature.iter();
        entries.extend(signature.map(|text| (tail::SIG, text.as_bytes())));
        let keys = self.keys.iter();
        entries.extend(keys.map(|(tier, key)| (tail::KEYS[tier - 1], key.as_bytes())));
        [&self.model[..], &tail::encode(&entries, self.is_locked)].concat()
    }

    pub fn write(&self, path: &Path) {
        fs::write(path, self.encode()).unwrap();
    }

    pub fn parse(&self) -> Manifest {
        Manifest::parse(&self.manifest).unwrap()
    }

    /// The wrapped key of `tier`.
    pub fn part(&self, tier: usize) -> &str {
        let part = self.keys.iter().find(|(of, _)| *of == tier);
        &part.unwrap().1
    }

    /// Replaces the wrapped key of `tier`.
    pub fn set_part(&mut self, tier: usize, wrapped: &str) {
        self.keys.retain(|(of, _)| *of != tier);
        self.keys.push((tier, wrapped.to_owned()));
        self.keys.sort();
    }
}

/// The runs of each tier's targets, as the manifest writes them.
fn runs_of(tensor: &Tensor) -> Vec<Vec<u64>> {
    let texts = serde_json::to_value(&tensor.targets).unwrap();
    let texts = texts.as_array().unwrap().iter();
    let numbers = texts.map(|text| {
        let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
        let of_number = bytes.split_inclusive(|byte| byte >> 7 == 0);
        let number = |bytes: &[u8]| {
            let groups = bytes.iter().rev();
            groups.fold(0, |number, byte| number << 7 | u64::from(byte & 0x7F))
        };
        of_number.map(number).collect()
    });
    numbers.collect()
}

/// Runs as a manifest writes them.
pub fn text_of(runs: &[u64]) -> String {
    let mut bytes = Vec::new();
    for &number in runs {
        let mut rest = number;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    STANDARD.encode(bytes)
}

/// The tier of every byte of each file, where it is a target, and its tensor: told element by
/// element.
pub fn tiers_of(manifest: &Manifest) -> Vec<Vec<Option<(u8, usize)>>> {
    let files = manifest.files().iter();
    let mut tiers: Vec<_> = files.map(|file| vec![None; file.bytes as usize]).collect();
    for (index, tensor) in manifest.tensors().iter().enumerate() {
        let n_elements: u64 = tensor.dims.iter().product();
        let mut of_units = vec![None; n_elements.div_ceil(tensor.unit) as usize];
        for (tier, runs) in (1..).zip(runs_of(tensor)) {
            let mut at = 0;
            for run in runs.chunks(2) {
                at += run[0];
                for _ in 0..run[1] {
                    let before = of_units[at as usize].replace(tier);
                    assert_eq!(before, None, "a target of two tiers");
                    at += 1;
                }
            }
        }
        let bits = u64::from(tensor.data_type.bits());
        for element in 0..n_elements {
            let Some(tier) = of_units[(element / tensor.unit) as usize] else {
                continue;
            };
            let bytes = match tensor.stride {
                Some(stride) => {
                    let start = element * u64::from(stride);
                    start..start + bits / 8
                }
                None => element * bits / 8..((element + 1) * bits).div_ceil(8),
            };
            for byte in bytes {
                let slot = &mut tiers[tensor.file as usize][(tensor.offset + byte) as usize];
                assert!(slot.is_none_or(|before| before == (tier, index)));
                *slot = Some((tier, index));
            }
        }
    }
    tiers
}

/// A small net: `bytes` by MatMul, `mask` by Gemm, `shuffle` by Conv, and `clear`, which
/// [`SMALL_MODES`] leave as it is. It has 4 chunks.
pub fn small() -> Vec<u8> {
    build::GraphBuilder::new("small")
        .input("x", &[1, 128])
        .output("y", &[1, 128])
        .initializer(build::weights("bytes", &[128, 128], 1))
        .initializer(build::weights("mask", &[128, 128], 2))
        .initializer(build::weights("shuffle", &[64, 32, 3, 3], 3))
        .initializer(build::weights("clear", &[64, 64], 4))
        .node(build::node("MatMul", &["x", "bytes"], &["a"]))
        .node(build::node("Gemm", &["a", "mask"], &["b"]))
        .node(build::node("Conv", &["b", "shuffle"], &["c"]))
        .node(build::node("MatMul", &["c", "clear"], &["y"]))
        .encode()
}

/// The modes of [`small`].
pub const SMALL_MODES: &str = "\
[mode]\nGemm = \"mask\"\nConv = \"shuffle\"\n[[override]]\ninitializer = \"clear\"\ncoefficient = 0.0\n";

pub fn alone(name: &'static str, model: Vec<u8>) -> Sample {
    let files = Vec::new();
    Sample { name, model, files }
}
