//! Publishers' signatures: where one is demanded, nothing unsigned, forged or changed is opened.

use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_core::{
    Access, AllowedSigners, Checks, Edition, Error, ErrorKind, Flush, Policy, ProtectOptions,
    Resign, RotateOptions, SignedBy, SigningKey, Silent, attach_signature, open, protect, rekey,
    rotate, sign, signed_message, unprotect, verify,
};
use onnxseal_onnx::tail;
use onnxseal_testkit::{Sample, samples};

use crate::lab::{ALICE, BOB, IN_PLACE, Lab, files, key};

/// Demands a signature by Alice, of whom `name` is a principal.
fn demand(signer: Option<&str>) -> SignedBy {
    let line = format!("alice@example.com {}\n", ALICE.0);
    SignedBy {
        allowed: AllowedSigners::read(line.as_bytes(), "allowed signers").unwrap(),
        signer: signer.map(str::to_owned),
    }
}

fn protect_signed(lab: &Lab, sample: &Sample, by: Option<SigningKey>) -> PathBuf {
    let model = lab.write(sample, "plain");
    let sealed = lab.path("sealed/model.onnx");
    let mut options = ProtectOptions::new(Policy::default());
    options.chunk_bytes = 1 << 16;
    options.signing_key = by;
    protect(&model, &sealed, &lab.recipients, &options, &Silent).unwrap();
    sealed
}

/// What each call that opens `model` says, if it demands a signature `by` somebody; nothing appears
/// and nothing changes.
fn refusals(lab: &Lab, model: &Path, by: &SignedBy) -> Vec<Error> {
    let folder = model.parent().unwrap();
    let before = files(folder);
    let access = Access {
        identities: &lab.identities,
        edition: Edition::Whole,
        signed_by: Some(by),
        licence: None,
    };
    let output = lab.path("refused/model.onnx");
    let to = &lab.recipients;
    let options = RotateOptions {
        signature: Resign::Drop,
        ..RotateOptions::default()
    };
    let checks = |identities| Checks {
        identities,
        edition: Edition::Whole,
        signed_by: Some(by),
        ..Checks::default()
    };
    let mut found = vec![
        open(model, access, &Silent).map(drop),
        unprotect(model, &output, access, &Silent).map(drop),
        verify(model, &checks(None), &Silent).map(drop),
        verify(model, &checks(Some(&lab.identities)), &Silent).map(drop),
        rekey(model, &output, access, to, &Silent).map(drop),
        rekey(model, IN_PLACE, access, to, &Silent).map(drop),
        rotate(model, &output, access, to, &options, &Silent).map(drop),
    ];
    if before.len() == 1 {
        found.push(rotate(model, IN_PLACE, access, to, &options, &Silent).map(drop));
    }
    assert!(files(folder) == before);
    assert!(!lab.path("refused").exists());
    found
        .into_iter()
        .map(|result| result.unwrap_err())
        .collect()
}

#[test]
fn a_signature_lasts_until_the_weights_are_sealed_anew() {
    for sample in [samples::external_data(), one_file()] {
        let lab = Lab::new();
        let sealed = protect_signed(&lab, &sample, Some(key(ALICE)));
        let [rekeyed, rotated] = ["rekeyed/model.onnx", "rotated/model.onnx"].map(|p| lab.path(p));
        let (to, by) = (&lab.recipients, &demand(Some("alice@example.com")));
        let access = Access {
            identities: &lab.identities,
            edition: Edition::Whole,
            signed_by: Some(by),
            licence: None,
        };
        let accepted = |model: &Path| {
            let checks = Checks {
                signed_by: Some(by),
                ..Checks::default()
            };
            let verified = verify(model, &checks, &Silent).unwrap();
            let signer = verified.signed_by.unwrap();
            assert_eq!(signer.principals, ["alice@example.com"]);
            assert_eq!(signer.fingerprint, key(ALICE).fingerprint());
            assert!(!verified.authenticated);
            assert!(open(model, access, &Silent).unwrap().model() == sample.model);
        };
        accepted(&sealed);
        rekey(&sealed, &rekeyed, access, to, &Silent).unwrap();
        rekey(&rekeyed, IN_PLACE, access, to, &Silent).unwrap();
        accepted(&rekeyed);

        let mut options = RotateOptions::default();
        let lost = rotate(&rekeyed, &rotated, access, to, &options, &Silent).map(drop);
        assert!(matches!(lost, Err(Error::SignatureLost { .. })), "{lost:?}");
        assert!(!rotated.exists());
        options.signature = Resign::Drop;
        rotate(&rekeyed, &rotated, access, to, &options, &Silent).unwrap();
        for error in refusals(&lab, &rotated, by) {
            assert!(matches!(error, Error::NotSigned { .. }), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Authentication);
        }
        sign(&rotated, &key(ALICE), Flush::Later, &Silent).unwrap();
        accepted(&rotated);
        if sample.files.is_empty() {
            options.signature = Resign::Refuse;
            let lost = rotate(&rotated, IN_PLACE, access, to, &options, &Silent).map(drop);
            assert!(matches!(lost, Err(Error::SignatureLost { .. })), "{lost:?}");
            accepted(&rotated);
            options.signature = Resign::With(key(ALICE));
            rotate(&rotated, IN_PLACE, access, to, &options, &Silent).unwrap();
            accepted(&rotated);
        }
    }
}

#[test]
fn others_signatures_and_others_names_are_refused() {
    let lab = Lab::new();
    let sealed = protect_signed(&lab, &samples::external_data(), Some(key(BOB)));
    for error in refusals(&lab, &sealed, &demand(None)) {
        assert!(matches!(error, Error::Signature { .. }), "{error:?}");
    }
    sign(&sealed, &key(ALICE), Flush::ToDisk, &Silent).unwrap();
    for error in refusals(&lab, &sealed, &demand(Some("bob@example.com"))) {
        assert!(matches!(error, Error::Signature { .. }), "{error:?}");
    }
    assert!(lab.open(&sealed).is_ok(), "who demands none opens it");
}

#[test]
fn no_changed_byte_keeps_its_signature() {
    let lab = Lab::new();
    let sealed = protect_signed(&lab, &samples::external_data(), Some(key(ALICE)));
    let by = &demand(None);
    let checks = Checks {
        signed_by: Some(by),
        ..Checks::default()
    };
    verify(&sealed, &checks, &Silent).unwrap();
    let model = fs::read(&sealed).unwrap();
    let tail = tail::split(&model).unwrap().unwrap();
    let key_starts = tail.entries.last().unwrap().field.start as usize;
    for (path, bytes) in files(&lab.path("sealed")) {
        let covered = match path == sealed {
            true => key_starts,
            false => bytes.len(),
        };
        for at in 0..covered {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            let verified = verify(&sealed, &checks, &Silent);
            assert!(verified.is_err(), "{} byte {at}", path.display());
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn tags_for_another_data_key_do_not_fit_the_signature() {
    // Whoever can open the model can seal the same ciphertext under a key of their own, and so have
    // others decrypt it to something else. Here the parts of two seals of one model are mixed.
    let lab = Lab::new();
    let sealed = protect_signed(&lab, &one_file(), Some(key(ALICE)));
    let signed = fs::read(&sealed).unwrap();
    let by = demand(None);
    let options = RotateOptions {
        signature: Resign::Drop,
        ..RotateOptions::default()
    };
    let rotated = lab.path("rotated/model.onnx");
    let to = &lab.recipients;
    rotate(&sealed, &rotated, &lab.identities, to, &options, &Silent).unwrap();
    let other = fs::read(&rotated).unwrap();
    let (signed_tail, other_tail) = (
        tail::split(&signed).unwrap().unwrap(),
        tail::split(&other).unwrap().unwrap(),
    );
    for replaced in [
        &[tail::TAGS][..],
        &[tail::MAC],
        &[tail::TAGS, tail::MAC],
        &[tail::TAGS, tail::MAC, tail::KEYS[0]],
    ] {
        let entries: Vec<(&str, &[u8])> = (signed_tail.entries.iter())
            .map(|entry| match replaced.contains(&entry.key) {
                true => (entry.key, other_tail.value(entry.key).unwrap().as_bytes()),
                false => (entry.key, entry.value.as_bytes()),
            })
            .collect();
        let head = &signed[..signed_tail.start as usize];
        fs::write(&sealed, [head, &tail::encode(&entries, true)].concat()).unwrap();
        let checks = Checks {
            signed_by: Some(&by),
            ..Checks::default()
        };
        let refused = verify(&sealed, &checks, &Silent);
        assert!(
            matches!(refused, Err(Error::Signature { .. })),
            "{replaced:?}"
        );
    }
}

#[test]
fn signatures_made_elsewhere_are_checked_before_they_are_attached() {
    let lab = Lab::new();
    let sealed = protect_signed(&lab, &samples::external_data(), None);
    let message = signed_message(&sealed, &Silent).unwrap();
    assert_eq!(message.lines().count(), 5);
    let before = files(&lab.path("sealed"));
    let wrong = key(ALICE).sign(b"something else").unwrap();
    let refused = attach_signature(&sealed, &wrong, Flush::Later, &Silent);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Authentication);
    assert!(attach_signature(&sealed, "no signature", Flush::Later, &Silent).is_err());
    assert!(files(&lab.path("sealed")) == before);

    let good = key(ALICE).sign(message.as_bytes()).unwrap();
    let signer = attach_signature(&sealed, &good, Flush::Later, &Silent).unwrap();
    assert_eq!(signer.fingerprint, key(ALICE).fingerprint());
    assert_eq!(signed_message(&sealed, &Silent).unwrap(), message);
    let checks = Checks {
        signed_by: Some(&demand(None)),
        ..Checks::default()
    };
    verify(&sealed, &checks, &Silent).unwrap();
}

fn one_file() -> Sample {
    Sample {
        name: "conv_net",
        model: samples::conv_net(),
        files: Vec::new(),
    }
}
