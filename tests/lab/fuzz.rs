//! What the fuzz targets do with their bytes; `tests/corpus.rs` does the same with the corpora.
//!
//! Nothing may panic, whatever the bytes are, and what the assertions say holds.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_core::{
    Access, AllowedSigners, Checks, Edition, Error, Identities, InMemory, Licence, Manifest,
    OpenedModel, Policy, Preset, ProtectOptions, Recipients, SignedBy, Silent, inspect, open, plan,
    protect, signed_message, unprotect, verify,
};
use onnxseal_crypto::{ChunkId, Scratch, signature};
use onnxseal_inputs::rewrite::{
    Files, Rewritten, inspect as inspect_inputs, patch, rekey, rewrite,
};
use onnxseal_inputs::{InputKey, Scale, Transform, ValueType};
use onnxseal_labels::head::{Head, check_rows};
use onnxseal_labels::{Authority, Decoder, Table, UserKey, classes, protect as encrypt_labels};
use onnxseal_onnx::edit::{Elements, move_elements};
use onnxseal_onnx::model::{FileId, Payload, PayloadField, Tensor};
use onnxseal_onnx::{Limits, Model, external, locate, tail};
use onnxseal_testkit::wire;
use tempfile::TempDir;

/// A fuzz target: what it does with an input.
pub type Target = fn(&[u8]);

/// All targets by name; each has a folder of that name in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 14] = [
    ("wire_locate", wire_locate),
    ("manifest", manifest),
    ("open", open_artifact),
    ("forged", forged),
    ("round_trip", round_trip),
    ("policy", policy),
    ("signatures", signatures),
    ("licence", licence),
    ("rewrite", rewritten),
    ("input_key", input_key),
    ("input_rewrite", input_rewrite),
    ("label_key", label_key),
    ("label_table", label_table),
    ("label_rewrite", label_rewrite),
];

/// The external data file that stands beside every model: name and length.
const EXTERNAL: (&str, usize) = ("w.bin", 4096);

/// A model with a signature, and the text that the signatures in `fixtures/vectors/sshsig.json` are of.
const SIGNED_MODEL: &[u8] = include_bytes!("../../fixtures/sealed/valid/signed.onnx");
const SIGNED_TEXT: &str = "onnxseal/v1/signature\nof a test\n";
const SIGNER: &str = "alice@example.com";

const IDENTITY: &str = include_str!("../../fixtures/sealed/keys/id.txt");
/// Keys of lower tiers of the models with tiers in the corpora.
const LOWER: [&str; 2] = [
    include_str!("../../fixtures/sealed/keys/tier1.txt"),
    include_str!("../../fixtures/sealed/keys/tier2.txt"),
];
/// Who encrypts labels, and the key of one of its users.
const AUTHORITY: &str = include_str!("../../fixtures/labels/authority.json");
const LABEL_KEY: &str = include_str!("../../fixtures/labels/acme.key");
const WRAPPED_KEY: &str = include_str!("../../fixtures/sealed/keys/dek.age");

/// The bytes as a model: located, and looked at for a tail.
pub fn wire_locate(bytes: &[u8]) {
    let len = bytes.len() as u64;
    if let Ok(model) = locate(bytes, &Limits::default()) {
        model.has_content();
        for tensor in &model.tensors {
            assert!(tensor.message.start <= len);
            match tensor.payload {
                Payload::Dense {
                    file: FileId::MODEL,
                    span,
                    ..
                } => {
                    assert!(span.start >= tensor.message.start && span.end() <= len);
                }
                Payload::Strided { start, stride, .. } => {
                    let span = (tensor.n_elements - 1) * u64::from(stride);
                    assert!(start >= tensor.message.start && start + span < len);
                }
                _ => {}
            }
        }
        for location in &model.external_files {
            assert_eq!(external::normalise(location).as_ref(), Ok(location));
        }
    }
    if let Ok(Some(tail)) = tail::split(bytes) {
        let entries: Vec<_> = (tail.entries.iter())
            .map(|entry| (entry.key, entry.value.as_bytes()))
            .collect();
        let again = tail::encode(&entries, tail.is_locked);
        assert_eq!(again, bytes[tail.start as usize..]);
    }
}

/// The bytes as a manifest.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    for tensor in manifest.tensors() {
        assert!(tensor.n_targets() <= tensor.n());
        assert!(tensor.encrypted_bytes() <= tensor.len_bytes());
    }
}

/// The bytes as a protected model.
pub fn open_artifact(bytes: &[u8]) {
    let lab = Lab::new();
    let path = lab.write(bytes);
    lab.look_at(&path);
    let lower = LOWER.map(|text| Identities::read(text.as_bytes(), "fixed identity").unwrap());
    look_at_editions(&path, lower.iter().chain([&lab.identities]));
}

/// Opens a model as every edition that each of `identities` opens. An edition is the same by all of them:
/// who opens a higher tier too has authenticated it by that.
fn look_at_editions<'a>(path: &Path, identities: impl Iterator<Item = &'a Identities>) {
    fn opened_as(
        path: &Path,
        identities: &Identities,
        edition: Edition<'_>,
    ) -> Option<OpenedModel> {
        let access = Access {
            identities,
            signed_by: None,
            edition,
            licence: None,
        };
        open(path, access, &Silent).ok()
    }
    for identities in identities {
        let opened = |edition: Edition<'_>| opened_as(path, identities, edition);
        let whole = opened(Edition::Whole);
        assert!(whole.as_ref().is_none_or(OpenedModel::is_original));
        let Some(any) = opened(Edition::Any) else {
            assert!(whole.is_none());
            continue;
        };
        assert_eq!(any.is_original(), whole.is_some());
        let names = any.manifest().tier_names();
        let mut is_lower = true;
        for name in names {
            let edition = opened(Edition::Tier(name));
            // All up to the own tier, and none above.
            assert_eq!(edition.is_some(), is_lower);
            if any.tier() == Some(name) {
                let edition = edition.as_ref().unwrap();
                assert!(edition.model() == any.model());
                is_lower = false;
            }
        }
        assert_eq!(names.is_empty(), any.tier().is_none());
        assert!(opened(Edition::Tier("no-such-tier-there")).is_none());
    }
}

/// A protected model with authentic metadata that says anything: everybody can make one who knows
/// the recipient. The bytes are a manifest, a NUL, and the model file.
pub fn forged(bytes: &[u8]) {
    let Some(nul) = bytes.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (manifest, head) = (&bytes[..nul], &bytes[nul + 1..]);
    // So that less is left to chance, the manifest is made to have the right length.
    let Ok(mut manifest) = serde_json::from_slice::<serde_json::Value>(manifest) else {
        return;
    };
    let number = |at: &str| manifest.pointer(at).and_then(serde_json::Value::as_u64);
    let lens = (number("/original/bytes"), number("/files/0/bytes"));
    if let Some(bytes) = manifest.pointer_mut("/files/0/bytes") {
        *bytes = head.len().into();
    }
    if let ((Some(original), Some(was)), Some(bytes)) =
        (lens, manifest.pointer_mut("/original/bytes"))
    {
        let original = original.saturating_add(head.len() as u64);
        *bytes = original.saturating_sub(was).into();
    }
    let manifest = serde_json::to_vec(&manifest).unwrap();

    let lab = Lab::new();
    let data_key = lab.identities.unwrap(WRAPPED_KEY).unwrap();
    let parsed = Manifest::parse(&manifest).ok();
    let tiers = parsed.as_ref().map_or(1, Manifest::n_tiers);
    let keys = data_key.seal_keys(&manifest, tiers).unwrap();
    let chunk = parsed
        .as_ref()
        .map_or(1 << 20, |parsed| parsed.chunk_bytes() as usize);
    // By tier.
    let mut tags = vec![Vec::new(); tiers.into()];
    let mut seal = |file, content: &[u8]| {
        for (at, bytes) in (0..).zip(content.chunks(chunk)) {
            let id = ChunkId { file, chunk: at };
            let mut bytes = bytes.to_vec();
            let tag = keys.seal_chunk(id, &mut bytes, &[], &mut Scratch::default());
            tags[0].extend(tag.unwrap().0);
            for (key, tags) in keys.upper.iter().zip(&mut tags[1..]) {
                tags.extend(key.tag(id, &bytes).unwrap().0);
            }
        }
    };
    seal(0, head);
    // As many files as the folder has.
    if (parsed.as_ref()).is_some_and(|parsed| parsed.files().len() > 1) {
        seal(1, &external_content());
    }
    let tags = tags.concat();
    let (tags_text, mac_text) = (STANDARD.encode(&tags), STANDARD.encode(keys.macs(&tags)));
    let entries = [
        (tail::MANIFEST, &manifest[..]),
        (tail::TAGS, tags_text.as_bytes()),
        (tail::MAC, mac_text.as_bytes()),
        (tail::KEYS[usize::from(tiers) - 1], WRAPPED_KEY.as_bytes()),
    ];
    let is_locked = (parsed.as_ref()).is_some_and(|parsed| parsed.is_locked());
    let tail = tail::encode(&entries, is_locked);
    let path = lab.write(&[head, &tail].concat());
    let opened = lab.look_at(&path);
    look_at_editions(&path, std::iter::once(&lab.identities));
    // What was sealed without targets opens without targets.
    if let (Some(opened), Some(parsed)) = (opened, parsed)
        && parsed.tensors().is_empty()
    {
        assert!(opened == head);
    }
}

/// The bytes as a model: what can be planned comes back as it was.
pub fn round_trip(bytes: &[u8]) {
    let lab = Lab::new();
    let path = lab.write(bytes);
    // What cannot be encrypted has its own violations.
    let policy = || {
        let mut policy = Policy::preset(Preset::Full);
        policy.allow_clear("*").unwrap();
        policy
    };
    let Ok(report) = plan(&path, &policy()) else {
        return;
    };
    if !report.violations.is_empty() {
        return;
    }
    let recipients = recipients();
    let options = ProtectOptions::new(policy());
    let sealed = lab.dir.path().join("sealed/model.onnx");
    let protected = protect(&path, &sealed, &recipients, &options, &Silent).unwrap();
    assert_eq!(protected.weights, report.weights);
    assert!(fs::read(&path).unwrap() == bytes);

    assert_eq!(inspect(&sealed).unwrap().weights, report.weights);
    let (identities, policy) = (Some(&lab.identities), Some(&policy()));
    let checks = Checks {
        identities,
        policy,
        ..Checks::default()
    };
    verify(&sealed, &checks, &Silent).unwrap();
    let restored = lab.dir.path().join("restored/model.onnx");
    unprotect(&sealed, &restored, &lab.identities, &Silent).unwrap();
    assert!(fs::read(&restored).unwrap() == bytes);
    let opened = open(&sealed, &lab.identities, &Silent).unwrap();
    assert!(opened.model() == bytes);
    for (location, content) in opened.external_files() {
        assert!(content == external_content());
        let restored = restored.with_file_name(location);
        assert!(fs::read(restored).unwrap() == content);
    }

    // What comes back of a rewritten model is whole.
    let mut options = options;
    options.repack = true;
    let sealed = lab.dir.path().join("repacked/model.onnx");
    let repacked = protect(&path, &sealed, &recipients, &options, &Silent).unwrap();
    assert!(repacked.gaps.is_empty() && repacked.weights.share >= report.weights.share);
    let restored = lab.dir.path().join("rewritten/model.onnx");
    unprotect(&sealed, &restored, &lab.identities, &Silent).unwrap();
    let again = plan(&restored, &Policy::preset(Preset::Full)).unwrap();
    assert_eq!(again.weights, repacked.weights);
}

/// Models of a few kinds, without external data: the seeds of other targets.
const PLANNED: [&[u8]; 3] = [
    include_bytes!("../../fuzz/corpus/round_trip/gemm"),
    include_bytes!("../../fuzz/corpus/round_trip/if_branches"),
    include_bytes!("../../fuzz/corpus/round_trip/matmul_nbits"),
];

/// The bytes as the text of a policy: whatever can be read can be planned by.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(mut policy) = Policy::parse(text) else {
        return;
    };
    for model in PLANNED {
        let plan = |policy: &Policy| plan(InMemory::new("model", model.to_vec()), policy).unwrap();
        let strict = plan(&policy);
        assert!(strict.weights.encrypted_bytes <= strict.weights.bytes);
        assert!(strict.operators.iter().all(|row| row.coefficient.is_some()));
        policy.allow_unmatched();
        let lenient = plan(&policy);
        assert_eq!(strict.weights, lenient.weights);
        let unmatched = |told: &&String| told.contains(" matches nothing in the model");
        assert!(lenient.violations.iter().find(unmatched).is_none());
        policy = Policy::parse(text).unwrap();
    }
}

/// The bytes as an allowed signers file, a NUL, and an armored signature: of a text, and in a model.
pub fn signatures(bytes: &[u8]) {
    let Some(nul) = bytes.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (allowed, armored) = (&bytes[..nul], &bytes[nul + 1..]);
    let allowed = AllowedSigners::read(allowed, "fuzzed");
    let Ok(armored) = std::str::from_utf8(armored) else {
        return;
    };
    let claimed = signature::fingerprint_of(armored);
    let model_message = model_message();
    for message in [SIGNED_TEXT, model_message] {
        let held = signature::check(message.as_bytes(), armored);
        if let Ok(held) = &held {
            assert_eq!(Some(held), claimed.as_ref().ok());
            let other = format!("{message} ");
            assert!(signature::check(other.as_bytes(), armored).is_err());
        }
        let Ok(allowed) = &allowed else {
            continue;
        };
        for asked in [None, Some(SIGNER)] {
            if let Ok(signer) = allowed.verify(asked, message.as_bytes(), armored) {
                assert_eq!(signer.fingerprint, held.as_ref().unwrap().fingerprint);
                assert!(!signer.principals.is_empty());
            }
        }
    }
    // What is no signature is none in a model either; that takes longer to find out.
    let (Ok(allowed), Ok(_)) = (allowed, claimed) else {
        return;
    };
    let tail = tail::split(SIGNED_MODEL).unwrap().unwrap();
    let entries: Vec<_> = (tail.entries.iter())
        .map(|entry| match entry.key {
            tail::SIG => (entry.key, armored.as_bytes()),
            key => (key, entry.value.as_bytes()),
        })
        .collect();
    let head = &SIGNED_MODEL[..tail.start as usize];
    let lab = Lab::new();
    let path = lab.write(&[head, &tail::encode(&entries, tail.is_locked)].concat());
    inspect(&path).unwrap();
    let holds = allowed.verify(None, model_message.as_bytes(), armored);
    let by = SignedBy {
        allowed,
        signer: None,
    };
    let checks = Checks {
        signed_by: Some(&by),
        ..Checks::default()
    };
    let verified = verify(&path, &checks, &Silent);
    assert_eq!(verified.is_ok(), holds.is_ok(), "{verified:?}");
}

/// What the signature of [`SIGNED_MODEL`] is over.
pub fn model_message() -> &'static str {
    static MESSAGE: LazyLock<String> = LazyLock::new(|| {
        let lab = Lab::new();
        signed_message(lab.write(SIGNED_MODEL).as_path(), &Silent).unwrap()
    });
    &MESSAGE
}

/// The bytes as a model, of which some tensors are moved: which, the first byte says.
pub fn rewritten(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let Ok(model) = locate(bytes, &Limits::default()) else {
        return;
    };
    // Those that sessions move, with what is in them; what is in another file is made up.
    let mut moved = Vec::new();
    for (index, tensor) in model.tensors.iter().enumerate() {
        if let Payload::Dense {
            file, span, field, ..
        } = tensor.payload
            && field != PayloadField::AttributeFloats
            && span.len <= 1 << 20
            && choice.rotate_left(index as u32) & 1 == 0
        {
            let here = span.start as usize..span.end() as usize;
            let elements = match file {
                FileId::MODEL => bytes[here].to_vec(),
                _ => vec![index as u8; span.len as usize],
            };
            moved.push((index, elements));
        }
    }
    assert!(*move_elements(bytes, &[]).unwrap() == bytes);
    let outside = |(index, elements): &(usize, Vec<u8>)| {
        let (location, len) = ("null", elements.len() as u64);
        (
            model.tensors[*index].message,
            Elements::External { location, len },
        )
    };
    let without = move_elements(bytes, &moved.iter().map(outside).collect::<Vec<_>>()).unwrap();
    let emptied = locate(&without, &Limits::default()).unwrap();
    let inside = |of: &Model<'_>| -> Vec<_> {
        let offsets = moved.iter().map(|(index, elements)| {
            let elements = Elements::Inline(elements);
            (of.tensors[*index].message, elements)
        });
        offsets.collect()
    };
    let with = move_elements(bytes, &inside(&model)).unwrap();
    let filled = locate(&with, &Limits::default()).unwrap();
    // What was moved away and back is what was put there at once.
    assert!(move_elements(&without, &inside(&emptied)).unwrap() == with);
    let offsets: Vec<u64> = moved
        .iter()
        .map(|(i, _)| model.tensors[*i].message.start)
        .collect();
    let n_elements: usize = moved.iter().map(|(_, elements)| elements.len()).sum();
    for copy in [&without, &with] {
        assert!(copy.len() <= bytes.len() + n_elements + 256 * moved.len());
        assert_only_moved(bytes, 0, copy, &offsets);
    }
    for copy in [&emptied, &filled] {
        assert_eq!(copy.tensors.len(), model.tensors.len());
        for (copy, tensor) in copy.tensors.iter().zip(&model.tensors) {
            let said = |t: &Tensor<'_>| (t.path.clone(), t.data_type, t.dims.clone());
            assert_eq!((said(copy), copy.name), (said(tensor), tensor.name));
        }
    }
    for (index, elements) in &moved {
        let Payload::Dense { file, span, .. } = emptied.tensors[*index].payload else {
            panic!("{:?}", emptied.tensors[*index]);
        };
        assert_eq!(emptied.location(file), Some("null"));
        assert_eq!((span.start, span.len), (0, elements.len() as u64));
        match filled.tensors[*index].payload {
            Payload::Dense {
                file: FileId::MODEL,
                span,
                ..
            } => assert!(with[span.start as usize..span.end() as usize] == elements[..]),
            Payload::Empty => assert!(elements.is_empty()),
            _ => panic!("{:?}", filled.tensors[*index]),
        }
    }
}

/// Asserts that two messages differ in nothing but where the tensors that were `moved` have their
/// elements; `base` is the offset of the first.
fn assert_only_moved(message: &[u8], base: u64, copy: &[u8], moved: &[u64]) {
    const OF_ELEMENTS: [u32; 9] = [4, 5, 6, 7, 9, 10, 11, 13, 14];
    let (fields, copies) = (wire::fields(message), wire::fields(copy));
    assert_eq!(fields.len(), copies.len());
    for ((number, field), (copied_number, copied)) in fields.into_iter().zip(copies) {
        assert_eq!(number, copied_number);
        let (bytes, copied) = (&message[field.clone()], &copy[copied]);
        let all = base + field.start as u64..base + field.end as u64;
        if !moved.iter().any(|offset| all.contains(offset)) {
            assert!(bytes == copied);
            continue;
        }
        // Tag and length.
        let value = |field: &[u8]| {
            let ends = field.iter().enumerate().filter(|(_, byte)| **byte < 0x80);
            ends.map(|(at, _)| at + 1).nth(1).unwrap()
        };
        let (start, copied_start) = (value(bytes), value(copied));
        let (inner, copied) = (&bytes[start..], &copied[copied_start..]);
        let base = all.start + start as u64;
        if !moved.contains(&base) {
            assert_only_moved(inner, base, copied, moved);
            continue;
        }
        let kept = |tensor: &[u8]| -> Vec<u8> {
            let fields = wire::fields(tensor).into_iter();
            let kept = fields.filter(|(number, _)| !OF_ELEMENTS.contains(number));
            kept.flat_map(|(_, field)| tensor[field].to_vec()).collect()
        };
        assert!(kept(inner) == kept(copied));
    }
}

static IDENTITIES: LazyLock<Identities> =
    LazyLock::new(|| Identities::read(IDENTITY.as_bytes(), "fixed identity").unwrap());

/// The bytes as a key file, encrypted or not: a key that can be read is written as it is read, and undoes what it does.
pub fn input_key(bytes: &[u8]) {
    let Ok(key) = InputKey::from_bytes(bytes, Some(&IDENTITIES)) else {
        return;
    };
    let text = key.to_text();
    let again = InputKey::from_text(&text).unwrap();
    assert!(again.spec() == key.spec() && *again.to_text() == *text);
    let spec = key.spec();
    // Matrices of large blocks take seconds.
    if spec.has(Transform::Orthogonal) && spec.block_values() > 64 {
        return;
    }
    let (rows, columns) = (spec.block as usize, 2 * spec.block as usize);
    let cipher = key.cipher(rows, columns).unwrap();
    let plain: Vec<u8> = (0..2 * cipher.image_values())
        .map(|i| (i * 7) as u8)
        .collect();
    if key.keyed_types(ValueType::U8).contains(&ValueType::U8) {
        let mut keyed = plain.clone();
        let apply = |images: &mut [u8]| cipher.apply_in_place(images, Scale::Pixels);
        apply(&mut keyed).unwrap();
        cipher
            .invert_in_place(&mut keyed[..], Scale::Pixels)
            .unwrap();
        assert!(keyed == plain);
    }
    if spec.has(Transform::Ffx) {
        let mut keyed = vec![0_u16; plain.len()];
        cipher
            .apply(&plain[..], &mut keyed[..], Scale::Pixels)
            .unwrap();
        let mut back = vec![0_u8; plain.len()];
        cipher
            .invert(&keyed[..], &mut back[..], Scale::Pixels)
            .unwrap();
        assert!(back == plain);
    }
    let mut floats: Vec<f32> = plain.iter().map(|x| f32::from(*x)).collect();
    for scale in [Scale::Pixels, Scale::Normalised] {
        // Refused where the key has no mean, or FFX meets what is no pixel.
        let _ = cipher.apply_in_place(&mut floats[..], scale);
    }
}

/// A key of the kind that the bits of `choice` say, for models to be rewritten for.
pub fn rewriting_key(choice: u8, seed: &str) -> InputKey {
    let transforms = match choice & 3 {
        0 => r#"["shuffle", "negative"]"#,
        1 => r#"["shuffle"]"#,
        2 => r#"["negative"]"#,
        _ => r#"["orthogonal"]"#,
    };
    let pick = |bit: u8, off: &'static str, on: &'static str| match choice >> bit & 1 {
        0 => off,
        _ => on,
    };
    let (block, channels) = (pick(2, "4", "2"), pick(3, "3", "1"));
    let (layout, range) = (
        pick(4, "nchw", "nhwc"),
        pick(5, "[0.0, 1.0]", "[-1.0, 1.0]"),
    );
    let seed = seed.repeat(32);
    let text = format!(
        "version = 1\ntransforms = {transforms}\nblock = {block}\nchannels = {channels}\nlayout = \"{layout}\"\nrange = {range}\nseed = \"{seed}\"\n"
    );
    InputKey::from_text(&text).unwrap()
}

/// A byte that chooses the key, and a model: what can be rewritten can be written, and then has another key.
pub fn input_rewrite(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let lab = Lab::new();
    let path = lab.write(bytes);
    let Ok(files) = Files::open(&path.as_path().into()) else {
        return;
    };
    let key = rewriting_key(*choice, "07");
    let _ = files.with(inspect_inputs);
    let _ = files.with(|source| patch(source, key.spec()));
    let Ok(rewritten) = files.with(|source| rewrite(source, &key, None)) else {
        return;
    };
    assert_edits_fit(&rewritten, bytes.len() as u64);
    let (edited, _) = files.read(&rewritten.edits).unwrap();
    let model = locate(&edited, &Limits::default()).unwrap();
    assert!(model.tensors.len() >= locate(bytes, &Limits::default()).unwrap().tensors.len());
    let keyed = lab.dir.path().join("keyed/model.onnx");
    fs::create_dir(keyed.parent().unwrap()).unwrap();
    let options = onnxseal_core::OutputOptions::default();
    files
        .write(&rewritten.edits, &keyed.as_path().into(), options)
        .unwrap();
    assert!(fs::read(&keyed).unwrap() == edited);
    assert!(fs::read(&path).unwrap() == bytes);
    let files = Files::open(&keyed.as_path().into()).unwrap();
    let new = rewriting_key(*choice, "0a");
    let _ = files.with(|source| rekey(source, &key, &new, Some(&rewritten.input)));
}

/// Asserts that edits are in order, and that only the model's file changes its length.
fn assert_edits_fit(rewritten: &Rewritten, len_bytes: u64) {
    let mut last = (FileId::MODEL, 0);
    for edit in &rewritten.edits {
        assert!((edit.file, edit.taken.start) >= last);
        last = (edit.file, edit.taken.end());
        let len_bytes = match edit.file {
            FileId::MODEL => len_bytes,
            _ => EXTERNAL.1 as u64,
        };
        assert!(edit.taken.end() <= len_bytes);
        assert!(edit.file == FileId::MODEL || edit.text.len() as u64 == edit.taken.len);
    }
}

/// The bytes as the file of a label authority, or as a label key, encrypted or not: what can be read is written as it is read.
pub fn label_key(bytes: &[u8]) {
    if let Ok(key) = UserKey::from_bytes(bytes, Some(&IDENTITIES)) {
        let text = key.to_text();
        assert!(*UserKey::from_text(&text).unwrap().to_text() == *text);
    }
    let path = Path::new("authority");
    if let Ok(authority) = Authority::read(bytes, path, Some(&IDENTITIES)) {
        let text = authority.to_text().unwrap();
        let again = Authority::from_text(&text).unwrap();
        assert!(*again.to_text().unwrap() == *text);
        for (name, is_revoked) in authority.users() {
            assert!(authority.user_key(name).is_err() == is_revoked);
        }
        for model in authority.models() {
            // Inputs, rows and users that are many take long.
            if model.traces.len() * authority.users().len() < 100 {
                let _ = authority.trace(model, &vec![Some(1); model.traces.len()]);
            }
        }
    }
}

/// The bytes as a table of labels, without its base64: what can be read is written as it is read, and decodes answers of its shape.
pub fn label_table(bytes: &[u8]) {
    let Ok(table) = Table::parse(&STANDARD.encode(bytes)) else {
        return;
    };
    assert!(table.to_text() == STANDARD.encode(bytes));
    // A second for some ten thousand points.
    if table.n_rows() > 200 {
        return;
    }
    let key = UserKey::from_text(LABEL_KEY).unwrap();
    let checked = Decoder::new(&table, &key);
    assert!(checked.is_err() || table.verify().is_ok());
    let Ok(decoder) = Decoder::unchecked(&table, &key) else {
        return;
    };
    let (n_rows, n_classes) = (table.n_rows() as usize, table.classes() as usize);
    let answers: Vec<f32> = (0..2 * n_rows).map(|i| i as f32 - 7.5).collect();
    let logits = decoder.decode(&answers, &[2, n_rows]).unwrap();
    assert!(logits.len() == 2 * n_classes && classes(&logits, n_classes).len() == 2);
    assert!(decoder.decode(&answers, &[2, n_rows + 1]).is_err());
}

/// A model: labels that can be encrypted can be written, nothing changes but the edits, and the table belongs to the new rows.
pub fn label_rewrite(bytes: &[u8]) {
    let lab = Lab::new();
    let path = lab.write(bytes);
    let Ok(files) = onnxseal_rewrite::Files::open(&path.as_path().into()) else {
        return;
    };
    let Ok(head) = files.with(|source| Head::find(source, None)) else {
        return;
    };
    // Points take long: a second for some ten thousand.
    if head.classes > 100 {
        return;
    }
    let authority = Authority::from_text(AUTHORITY).unwrap();
    let Ok(plan) = encrypt_labels(&head, &authority, 2, &[]) else {
        return;
    };
    let text = plan.table.to_text();
    let Ok(changes) = files.with(|source| head.edits(source, &plan.stored, &text)) else {
        return;
    };
    let labelled = lab.dir.path().join("labelled/model.onnx");
    fs::create_dir(labelled.parent().unwrap()).unwrap();
    let options = onnxseal_core::OutputOptions::default();
    files
        .write(&changes, &labelled.as_path().into(), options)
        .unwrap();
    assert!(fs::read(&path).unwrap() == bytes);
    let files = onnxseal_rewrite::Files::open(&labelled.as_path().into()).unwrap();
    let table = Table::parse(&text).unwrap();
    files.with(|source| check_rows(source, &table)).unwrap();
    assert!(files.with(|source| Head::find(source, None)).is_err());
    if let [_, ..] = table.tail() {
        locate(table.tail(), &Limits::default()).unwrap();
    }
}

/// A licence that can be read lists models, and its notes, keys and signature can be looked at.
pub fn licence(bytes: &[u8]) {
    let Ok(licence) = Licence::parse(Path::new("a licence"), bytes.to_vec()) else {
        return;
    };
    assert!(!licence.models().is_empty());
    let identities = Identities::read(IDENTITY.as_bytes(), "fixed identity").unwrap();
    let _ = (licence.header(), licence.claimed_signer());
    let _ = (
        licence.check_in_force(),
        licence.check_unchanged(&identities),
    );
}

/// A folder in memory, where the system has one, and a fixed identity.
struct Lab {
    dir: TempDir,
    identities: Identities,
}

impl Lab {
    fn new() -> Lab {
        let memory = Path::new("/dev/shm");
        let dir = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Lab {
            dir: dir.unwrap(),
            identities: Identities::read(IDENTITY.as_bytes(), "fixed identity").unwrap(),
        }
    }

    fn write(&self, model: &[u8]) -> std::path::PathBuf {
        fs::write(self.dir.path().join(EXTERNAL.0), external_content()).unwrap();
        let path = self.dir.path().join("model.onnx");
        fs::write(&path, model).unwrap();
        path
    }

    /// Looks at a protected model in every way there is; all ways agree. Returns the model file
    /// where it opens.
    fn look_at(&self, path: &Path) -> Option<Vec<u8>> {
        let inspected = inspect(path).is_ok();
        let mut checks = Checks::default();
        let keyless = verify(path, &checks, &Silent).is_ok();
        checks.identities = Some(&self.identities);
        let verified = verify(path, &checks, &Silent);
        let policy = Policy::preset(Preset::Balanced);
        checks.policy = Some(&policy);
        let _ = verify(path, &checks, &Silent);
        let opened = open(path, &self.identities, &Silent);
        let restored = self.dir.path().join("restored/model.onnx");
        match unprotect(path, &restored, &self.identities, &Silent) {
            Ok(_) => {
                let opened = opened.as_ref().unwrap();
                assert!(fs::read(&restored).unwrap() == **opened.original_model());
                let folder = restored.parent().unwrap();
                for (path, bytes) in opened.original_external_files() {
                    assert!(fs::read(folder.join(path)).unwrap() == bytes);
                }
            }
            Err(error) => {
                // A name that only the original has may be one that cannot be written.
                let renamed = |opened: &OpenedModel| {
                    let manifest = opened.manifest();
                    manifest.original_files() != manifest.files()
                };
                let is_input = matches!(error, Error::OutputIsInput { .. });
                assert!(is_input || opened.as_ref().is_ok_and(renamed) || opened.is_err());
                assert!(!restored.exists());
            }
        }
        assert!(inspected || !keyless);
        if let Ok(verified) = verified {
            // A model out of force is authentic, and does not open.
            assert!(keyless && opened.is_ok() == verified.not_in_force.is_none());
        }
        opened.ok().map(|opened| opened.model().to_vec())
    }
}

/// Who opens with [`IDENTITY`].
pub fn recipients() -> Recipients {
    let recipient = (IDENTITY.lines()).find_map(|line| line.strip_prefix("# public key: "));
    Recipients::parse(recipient.as_slice()).unwrap()
}

fn external_content() -> Vec<u8> {
    (0..EXTERNAL.1).map(|i| (i * 7) as u8).collect()
}
