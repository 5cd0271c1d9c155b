//! Keyed inputs as a user meets them: keys, data sets, and what is left when something fails.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use onnxseal_data::images::{Image, Samples, decode};
use onnxseal_data::npy::Header;
use onnxseal_inputs::{InputKey, Scale};
use onnxseal_testkit::build::{
    GraphBuilder, external, floats, ints_attribute, le_bytes, node, node_with, weights,
};
#[cfg(unix)]
use rustix::process::Signal;

#[cfg(unix)]
use crate::lab::stopped;
use crate::lab::{Disk, Lab, contents, files, has_onnxruntime, project};

const KEYGEN: [&str; 4] = ["inputs", "keygen", "--block", "4"];

/// Rows and columns of the images.
const SIDE: u32 = 32;

/// A lab with `key.txt`, for blocks of 4 x 4 and three channels.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.expect(0, &[&["-q"], &KEYGEN[..], &["-o", "key.txt"]].concat());
    lab
}

fn key(lab: &Lab, name: &str) -> InputKey {
    InputKey::open(&lab.path(name), None).unwrap()
}

/// The seed in a key file, in hexadecimal.
fn seed(lab: &Lab, name: &str) -> String {
    let text = fs::read_to_string(lab.path(name)).unwrap();
    let seed = text.lines().find_map(|line| line.strip_prefix("seed = "));
    seed.unwrap().trim_matches('"').to_owned()
}

fn fixture(lab: &Lab, name: &str) {
    fs::copy(project("fixtures/inputs").join(name), lab.path(name)).unwrap();
}

// --- keys -------------------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn a_key_is_for_its_owner_and_is_never_overwritten() {
    let lab = lab();
    let mode = fs::metadata(lab.path("key.txt"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = contents(lab.dir.path());
    let again = [&KEYGEN[..], &["-o", "key.txt"]].concat();
    let (out, err) = lab.expect(2, &again);
    assert!(
        out.is_empty() && err.contains("key.txt") && err.contains("never overwritten"),
        "{err}"
    );
    assert!(contents(lab.dir.path()) == before);
    // Each is another one, also on standard output.
    let (one, _) = lab.expect(0, &KEYGEN);
    let (other, _) = lab.expect(0, &KEYGEN);
    assert!(one != other && InputKey::from_text(&one).is_ok());
}

#[cfg(unix)]
#[test]
fn an_encrypted_key_opens_for_its_recipient() {
    let lab = lab();
    let recipient = lab.recipient.clone();
    let to = ["-o", "key.age", "-r", &recipient];
    let (out, err) = lab.expect(0, &[&KEYGEN[..], &to].concat());
    assert!(out.is_empty() && !err.contains("seed"), "{out}{err}");
    let text = fs::read_to_string(lab.path("key.age")).unwrap();
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    let mode = fs::metadata(lab.path("key.age"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    pictures(&lab.path("plain"), 1);
    let encrypt = |more: &[&str], code| {
        let args = [
            "inputs", "encrypt", "plain", "--key", "key.age", "-o", "keyed",
        ];
        lab.expect(code, &[&args[..], more].concat()).1
    };
    let err = encrypt(&[], 2);
    assert!(
        err.contains("key.age") && err.contains("no identity was given"),
        "{err}"
    );
    lab.expect(0, &["keygen", "-o", "other.txt"]);
    encrypt(&["-i", "other.txt"], 5);
    assert!(!lab.path("keyed").exists());
    encrypt(&["-i", "id.txt"], 0);
    assert_eq!(files(&lab.path("keyed")).len(), 1);
    // A key of many tiers makes no sense.
    let tiers = format!("trial={recipient}");
    lab.expect(
        2,
        &[&KEYGEN[..], &["-o", "tiers.age", "-r", &tiers]].concat(),
    );
    assert!(!lab.path("tiers.age").exists());
}

#[test]
fn weak_keys_are_warned_of() {
    let lab = Lab::new();
    let said = |more: &[&str]| lab.expect(0, &[&["inputs", "keygen"], more].concat()).1;
    let (alone, small) = ("without negative or orthogonal", "blocks of 4 x 4");
    for (given, expected) in [
        (&["--block", "16"][..], [false, false]),
        (&["--block", "8"], [false, false]),
        (&["--block", "4"], [false, true]),
        (&["--block", "16", "--transform", "shuffle"], [true, false]),
        (
            &["--block", "16", "--transform", "shuffle,ffx"],
            [false, false],
        ),
        (
            &["--block", "16", "--transform", "orthogonal"],
            [false, false],
        ),
        (
            &["--block", "4", "--transform", "orthogonal"],
            [false, true],
        ),
    ] {
        let err = said(given);
        assert_eq!(
            [alone, small].map(|text| err.contains(text)),
            expected,
            "{given:?}: {err}"
        );
        assert!(
            err.contains("possible keys") && err.contains("not encryption"),
            "{err}"
        );
    }
    assert_eq!(said(&["-q", "--block", "4", "--transform", "shuffle"]), "");
    // Not the same for all.
    let err = said(&["--block", "4", "--transform", "orthogonal"]);
    assert!(
        err.contains("locks less than negative") && !err.contains("twenty"),
        "{err}"
    );
}

#[test]
fn help_on_recipients_speaks_of_the_key() {
    let lab = Lab::new();
    let (out, _) = lab.expect(0, &["inputs", "keygen", "--help"]);
    let (_, recipients) = out.split_once("--recipient ").unwrap();
    assert!(recipients.contains("Who can open the key"), "{out}");
    for other in ["model", "TIER", "rekey", "`inspect`"] {
        assert!(!recipients.contains(other), "{other}: {out}");
    }
}

#[test]
fn keys_that_cannot_be_are_refused() {
    let lab = Lab::new();
    for given in [
        &["--block", "0"][..],
        &["--block", "65"],
        &["--block", "4", "--transform", "negative,ffx"],
        &["--block", "4", "--transform", "orthogonal,shuffle"],
        &["--block", "4", "--transform", "rot13"],
        &["--block", "4", "--range", "1..0"],
        &["--block", "4", "--mean", "0.5"],
        &["--block", "4", "--mean", "0.5,0.5", "--std", "1"],
        &["--block", "4", "--mean", "0.5", "--std", "0"],
        &["--block", "4", "--channels", "1", "--bgr"],
        &[],
    ] {
        let args = [&["inputs", "keygen", "-o", "key.txt"], given].concat();
        lab.expect(2, &args);
        assert!(!lab.path("key.txt").exists(), "{given:?}");
    }
}

#[test]
fn no_message_has_the_seed() {
    let lab = Lab::new();
    for name in ["vit.onnx", "focus_padded.onnx"] {
        fixture(&lab, name);
    }
    let kind = ["--channels", "1", "--range", "0..1"];
    for name in ["key.txt", "new.txt"] {
        lab.expect(0, &[&KEYGEN[..], &kind, &["-o", name]].concat());
    }
    pictures(&lab.path("plain"), 1);
    let seeds = ["key.txt", "new.txt"].map(|name| seed(&lab, name));
    // One that is no key any more, in several ways.
    let text = fs::read_to_string(lab.path("key.txt")).unwrap();
    let value = format!("{:?}", seeds[0]);
    let unquoted = text.replace(&value, &seeds[0]);
    let long = text.replace(&value, &format!("\"{}0\"", seeds[0]));
    let named = text.replace("seed = ", "sed = ");
    let listed = text.replace(&value, &format!("[{value}]"));
    let twice = format!("{text}seed = {value}\n");
    let broken = [unquoted, long, named, listed, twice];
    let rewrite = |model, key, more: &[&str]| {
        let args = [
            "inputs",
            "rewrite",
            model,
            "--key",
            key,
            "-o",
            "keyed.onnx",
            "--force",
        ];
        lab.run(&[&args[..], more].concat())
    };
    let mut said = vec![
        rewrite("vit.onnx", "key.txt", &[]),
        rewrite("focus_padded.onnx", "key.txt", &[]),
    ];
    for text in &broken {
        fs::write(lab.path("broken.txt"), text).unwrap();
        let output = rewrite("vit.onnx", "broken.txt", &[]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        said.push(output);
    }
    said.push(lab.run(&[
        "inputs",
        "rekey",
        "keyed.onnx",
        "--key",
        "key.txt",
        "--to",
        "new.txt",
        "-o",
        "new.onnx",
    ]));
    said.push(lab.run(&[
        "inputs", "encrypt", "plain", "--key", "key.txt", "-o", "keyed",
    ]));
    for output in said {
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text).to_lowercase();
            let found = seeds.iter().any(|seed| text.contains(&seed[..16]));
            assert!(!found, "{text}");
        }
    }
}

// --- folders of images ------------------------------------------------------------------------------------------------

/// The pixels of a picture: nothing like another's.
fn pixels(number: u32) -> Vec<u8> {
    let n = SIDE * SIDE * 3;
    (0..n)
        .map(|i| ((i + number * 7919).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Writes `n` pictures to a folder.
fn pictures(folder: &Path, n: u32) {
    fs::create_dir_all(folder).unwrap();
    for number in 0..n {
        picture(&folder.join(format!("{number:04}.png")), number, SIDE);
    }
}

fn picture(path: &Path, number: u32, rows: u32) {
    let pixels = &pixels(number)[..(rows * SIDE * 3) as usize];
    save(path, rows, 3, pixels);
}

fn save(path: &Path, rows: u32, channels: usize, samples: &[u8]) {
    let image = Image {
        rows,
        columns: SIDE,
        channels,
        samples: Samples::U8(samples.to_vec()),
    };
    let mut bytes = Vec::new();
    image.encode(&mut bytes).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The samples of a picture.
fn samples(path: &Path) -> Vec<u8> {
    match decode(path).unwrap().samples {
        Samples::U8(samples) => samples,
        Samples::U16(_) => panic!("{} has 16 bits", path.display()),
    }
}

/// What must come of a picture: of arrays, the key takes channels first.
fn keyed(key: &InputKey, number: u32) -> Vec<u8> {
    let side = SIDE as usize;
    let plain = pixels(number);
    let planes = (0..3).flat_map(|channel| plain.iter().skip(channel).step_by(3).copied());
    let mut planes: Vec<u8> = planes.collect();
    let cipher = key.cipher(side, side).unwrap();
    cipher
        .apply_in_place(&mut planes[..], Scale::Pixels)
        .unwrap();
    let at = |i: usize| planes[i % 3 * side * side + i / 3];
    (0..plain.len()).map(at).collect()
}

/// Asserts that each file of a folder is the whole keyed image of its number, and counts them.
fn whole(lab: &Lab, folder: &str) -> usize {
    let key = key(lab, "key.txt");
    let found = match lab.path(folder).exists() {
        true => files(&lab.path(folder)),
        false => Vec::new(),
    };
    for path in &found {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let number = name.parse();
        assert!(number.is_ok(), "a stray file: {}", path.display());
        assert!(
            samples(path) == keyed(&key, number.unwrap()),
            "{} is not whole",
            path.display()
        );
    }
    found.len()
}

#[test]
fn what_cannot_be_transformed_is_named_and_the_rest_goes_on() {
    let lab = lab();
    let plain = lab.path("plain");
    pictures(&plain, 6);
    // Cut short, no picture at all, empty, a size that no block divides, other channels.
    let bytes = fs::read(plain.join("0001.png")).unwrap();
    fs::write(plain.join("0001.png"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(plain.join("broken.jpg"), b"no picture").unwrap();
    fs::write(plain.join("empty.png"), b"").unwrap();
    fs::create_dir(plain.join("below")).unwrap();
    picture(&plain.join("below/odd.png"), 1, SIDE - 2);
    let grey = plain.join("grey.png");
    save(&grey, 32, 1, &pixels(1)[..1024]);
    fs::write(plain.join("notes.txt"), "not an image").unwrap();
    let before = contents(&plain);
    let encrypt = [
        "inputs", "encrypt", "plain", "--key", "key.txt", "-o", "keyed",
    ];
    let (out, err) = lab.expect(3, &encrypt);
    assert!(out.is_empty(), "{out}");
    for (name, reason) in [
        ("0001.png", ""),
        ("broken.jpg", ""),
        ("empty.png", ""),
        ("odd.png", "30"),
        ("grey.png", "channel"),
    ] {
        let line = err.lines().find(|line| line.contains(name));
        assert!(
            line.is_some_and(|line| line.contains(reason)),
            "{name}: {err}"
        );
    }
    assert!(err.contains("5 files were not transformed"), "{err}");
    assert!(err.contains("1 file left out"), "{err}");
    assert!(
        err.contains("hint: a key is for images of one kind"),
        "{err}"
    );
    assert!(err.contains("--layout"), "{err}");
    assert_eq!(whole(&lab, "keyed"), 5);
    assert!(contents(&plain) == before);
    // The second run does what is missing, and nothing else.
    let stamp = |name: &str| {
        fs::metadata(lab.path("keyed").join(name))
            .unwrap()
            .modified()
            .unwrap()
    };
    let first = stamp("0000.png");
    fs::remove_file(lab.path("keyed/0004.png")).unwrap();
    picture(&plain.join("0001.png"), 1, SIDE);
    let (_, err) = lab.expect(3, &encrypt);
    assert!(
        err.contains("2 files written") && err.contains("4 files skipped"),
        "{err}"
    );
    assert_eq!(stamp("0000.png"), first);
    assert_eq!(whole(&lab, "keyed"), 6);
    // All, once more.
    let forced = [&encrypt[..], &["--force"]].concat();
    lab.expect(3, &forced);
    assert_ne!(stamp("0000.png"), first);
    // And back.
    let back = [
        "-q",
        "inputs",
        "encrypt",
        "--decrypt",
        "keyed",
        "--key",
        "key.txt",
        "-o",
        "back",
    ];
    lab.expect(0, &back);
    for number in 0..6 {
        let found = lab.path("back").join(format!("{number:04}.png"));
        assert!(samples(&found) == pixels(number));
    }
}

#[test]
fn sources_that_are_not_there_and_folders_with_nothing() {
    let lab = lab();
    fs::create_dir(lab.path("plain")).unwrap();
    fs::write(lab.path("plain/notes.txt"), "not an image").unwrap();
    let encrypt = |source: &str, code| {
        let args = [
            "inputs", "encrypt", source, "--key", "key.txt", "-o", "keyed",
        ];
        lab.expect(code, &args).1
    };
    let err = encrypt("plain", 2);
    assert!(err.contains("nothing to transform"), "{err}");
    encrypt("absent", 7);
    assert!(
        files(lab.dir.path())
            .iter()
            .all(|path| !path.starts_with(lab.path("keyed")))
    );
}

#[test]
fn two_images_that_would_become_one_file_are_refused() {
    let lab = lab();
    pictures(&lab.path("plain"), 1);
    let jpeg = lab.path("plain/0000.jpg");
    fs::copy("fixtures/inputs/photo.jpg", jpeg).unwrap();
    let args = [
        "inputs", "encrypt", "plain", "--key", "key.txt", "-o", "keyed",
    ];
    let output = lab.run(&args);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("0000."), "{err}");
}

#[test]
fn arrays_in_folders_are_told_of() {
    let lab = lab();
    pictures(&lab.path("plain"), 1);
    for name in ["a.npy", "b.npz"] {
        fs::write(lab.path("plain").join(name), b"").unwrap();
    }
    let args = [
        "inputs", "encrypt", "plain", "--key", "key.txt", "-o", "keyed",
    ];
    let (_, err) = lab.expect(0, &args);
    assert!(
        err.contains("1 image transformed; 1 file written; 2 files of arrays left out"),
        "{err}"
    );
}

/// An array of one keyed or plain image of 32-bit floats, `[1, 3, 4, 4]`.
fn float_image(value: impl Fn(usize) -> f32) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 4, 4), }";
    bytes.extend(format!("{header:117}\n").into_bytes());
    bytes.extend((0..48).map(value).flat_map(f32::to_le_bytes));
    bytes
}

#[test]
fn floats_that_the_key_is_not_for_are_warned_of() {
    let lab = lab();
    let image = |name: &str, low: f32, high: f32| {
        let step = (high - low) / 47.0;
        let bytes = float_image(|i| low + i as f32 * step);
        fs::write(lab.path(name), bytes).unwrap();
    };
    image("pixels.npy", 0.0, 255.0);
    image("unit.npy", 0.0, 1.0);
    image("normalised.npy", -2.0, 2.5);
    let keygen = |name: &str, more: &[&str]| {
        lab.expect(0, &[&KEYGEN[..], &["-o", name], more].concat());
    };
    keygen("unit.txt", &["--range", "0..1"]);
    let normal = ["--range", "0..1", "--mean", "0.45", "--std", "0.22"];
    keygen("normal.txt", &normal);
    keygen(
        "shuffle.txt",
        &["--range", "0..1", "--transform", "shuffle"],
    );
    for (source, key, more, wanted) in [
        ("pixels.npy", "key.txt", "-q", None),
        ("pixels.npy", "key.txt", "", None),
        ("unit.npy", "unit.txt", "", None),
        ("pixels.npy", "shuffle.txt", "", None),
        ("normalised.npy", "normal.txt", "--normalised", None),
        (
            "pixels.npy",
            "unit.txt",
            "",
            Some("between 0 and 255, outside"),
        ),
        (
            "unit.npy",
            "key.txt",
            "",
            Some("between 0 and 1, in a small part"),
        ),
        ("normalised.npy", "normal.txt", "", Some("say --normalised")),
        (
            "pixels.npy",
            "normal.txt",
            "--normalised",
            Some("range of -2.0455 to 2.5"),
        ),
    ] {
        let mut args = vec!["inputs", "encrypt", source, "--key", key, "-o", "out.npy"];
        args.push("--force");
        args.extend(Some(more).filter(|more| !more.is_empty()));
        let (_, err) = lab.expect(0, &args);
        let is_told = wanted.is_some_and(|wanted| err.contains(wanted) && err.contains("--range"));
        assert_eq!(
            is_told || err.contains("warning"),
            wanted.is_some(),
            "{args:?}: {err}"
        );
        assert_eq!(is_told, wanted.is_some(), "{args:?}: {err}");
    }
}

#[test]
fn hints_name_what_the_command_has() {
    let lab = lab();
    fixture(&lab, "convmixer.onnx");
    let rewrite = |model: &str, output: &str, code| {
        let args = ["inputs", "rewrite", model, "--key", "key.txt", "-o", output];
        lab.expect(code, &args).1
    };
    fs::write(lab.path("there"), b"").unwrap();
    let exists = rewrite("convmixer.onnx", "there", 2);
    fs::write(lab.path("plain.npy"), array(1)).unwrap();
    fs::write(lab.path("keyed.npy"), b"").unwrap();
    let encrypt = |sources: &[&str], output: &str| {
        let args = [
            &["inputs", "encrypt"],
            sources,
            &["--key", "key.txt", "-o", output],
        ];
        lab.expect(2, &args.concat()).1
    };
    for err in [exists, encrypt(&["plain.npy"], "keyed.npy")] {
        assert!(
            err.contains("replace it with --force") && !err.contains("--external-data"),
            "{err}"
        );
    }
    let err = encrypt(&["plain.npy", "convmixer.onnx"], "keyed.npy");
    assert!(
        err.contains("has to be a folder for several sources"),
        "{err}"
    );
    let err = encrypt(&["plain.npy"], "out.png");
    assert!(err.contains("let it end in .npy"), "{err}");
    // A protected model is to be opened first.
    let recipient = lab.recipient.clone();
    let protect = [
        "protect",
        "convmixer.onnx",
        "-o",
        "sealed.onnx",
        "-r",
        &recipient,
    ];
    lab.expect(0, &protect);
    let err = rewrite("sealed.onnx", "keyed.onnx", 2);
    assert!(err.contains("onnxseal unprotect"), "{err}");
}

// --- interruptions ----------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn a_folder_that_is_stopped_has_whole_images_and_the_next_run_ends_it() {
    const N: u32 = 1500;
    let lab = lab();
    pictures(&lab.path("plain"), N);
    let encrypt = [
        "inputs", "encrypt", "plain", "--key", "key.txt", "-o", "keyed",
    ];
    let some = |n: usize| {
        let folder = lab.path("keyed");
        move || fs::read_dir(&folder).is_ok_and(|found| found.count() >= n)
    };
    let (code, err) = stopped(&lab, &encrypt, Signal::TERM, some(20));
    assert_eq!(code, Some(143), "{err}");
    assert!(err.contains("a second run makes the rest"), "{err}");
    let first = whole(&lab, "keyed");
    assert!((20..N as usize).contains(&first), "{first}");
    // Killed: hidden files may stay, but no broken images.
    let (code, err) = stopped(&lab, &encrypt, Signal::KILL, some(first + 50));
    assert_eq!(code, None, "{err}");
    let hidden: Vec<PathBuf> = files(&lab.path("keyed"))
        .into_iter()
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .collect();
    for path in &hidden {
        fs::remove_file(path).unwrap();
    }
    let second = whole(&lab, "keyed");
    assert!((first + 50..N as usize).contains(&second), "{second}");
    let (_, err) = lab.expect(0, &encrypt);
    assert!(
        err.contains(&format!("{second} files skipped"))
            && err.contains(&format!("{} files written", N as usize - second)),
        "{err}"
    );
    assert_eq!(whole(&lab, "keyed"), N as usize);
}

/// An array of `n` images, `[n, 3, 32, 32]`.
fn array(n: usize) -> Vec<u8> {
    let mut bytes = Header::bytes_of("|u1", &[n, 3, 32, 32]);
    bytes.extend((0..n * 3072).map(|i| (i * 31 + (i >> 10)) as u8));
    bytes
}

#[cfg(unix)]
#[test]
fn a_file_that_is_stopped_is_absent_or_whole() {
    let lab = lab();
    let plain = array(60_000);
    fs::write(lab.path("plain.npy"), &plain).unwrap();
    let encrypt = [
        "-q",
        "inputs",
        "encrypt",
        "plain.npy",
        "--key",
        "key.txt",
        "-o",
        "out/keyed.npy",
    ];
    let out = lab.path("out");
    let cleared = || {
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
    };
    cleared();
    let begun = Instant::now();
    lab.expect(0, &encrypt);
    let duration = begun.elapsed();
    let wanted = fs::read(out.join("keyed.npy")).unwrap();
    assert_eq!(wanted.len(), plain.len());
    assert!(wanted != plain);
    assert_eq!(wanted[..128], plain[..128]);
    let mut n_absent = 0;
    for run in 0..24_u32 {
        cleared();
        let moment = duration.mul_f64((f64::from(run) * 0.618_034).fract());
        let begun = Instant::now();
        let signal = match run % 2 {
            0 => Signal::TERM,
            _ => Signal::KILL,
        };
        let (code, err) = stopped(&lab, &encrypt, signal, || begun.elapsed() >= moment);
        match fs::read(out.join("keyed.npy")) {
            Ok(found) => assert!(found == wanted, "a file that is not whole"),
            Err(_) => {
                n_absent += 1;
                // One that is asked to end before it listens is ended as any process is.
                assert!(matches!(code, None | Some(143)), "{code:?} {err}");
                let left = files(&out);
                assert!(signal != Signal::TERM || left.is_empty(), "{left:?}");
            }
        }
    }
    assert!(n_absent > 0);
    assert!(fs::read(lab.path("plain.npy")).unwrap() == plain);
}

// --- rewriting --------------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn a_rewriting_that_fails_leaves_nothing() {
    if !has_onnxruntime() {
        return;
    }
    let lab = Lab::new();
    for name in ["vit.onnx", "vit_fp16.onnx", "focus_padded.onnx"] {
        fixture(&lab, name);
    }
    let quantised = project("fixtures/models/digits_cnn_qdq.onnx");
    fs::copy(quantised, lab.path("qdq.onnx")).unwrap();
    let kind = ["--channels", "1", "--range", "0..1", "-o", "key.txt"];
    lab.expect(0, &[&KEYGEN[..], &kind].concat());
    fs::create_dir(lab.path("out")).unwrap();
    fs::write(lab.path("no.onnx"), b"no model").unwrap();
    let vit = fs::read(lab.path("vit.onnx")).unwrap();
    fs::write(lab.path("cut.onnx"), &vit[..vit.len() / 2]).unwrap();
    let before = contents(lab.dir.path());
    let rewrite = |model: &str, more: &[&str], code| {
        let args = [
            "inputs",
            "rewrite",
            model,
            "--key",
            "key.txt",
            "-o",
            "out/keyed.onnx",
        ];
        let (out, err) = lab.expect(code, &[&args[..], more].concat());
        assert!(out.is_empty(), "{out}");
        assert!(contents(lab.dir.path()) == before, "{model}: {err}");
        err
    };
    let err = rewrite("qdq.onnx", &[], 2);
    assert!(err.contains("quantised") && err.contains("hint"), "{err}");
    rewrite("focus_padded.onnx", &[], 2);
    rewrite("no.onnx", &[], 3);
    rewrite("cut.onnx", &[], 3);
    rewrite("absent.onnx", &[], 7);
    rewrite("vit.onnx", &["--input", "pixels"], 2);
    rewrite("vit_fp16.onnx", &["--no-check"], 2);
    // Files may have 1 KiB at most.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" inputs rewrite vit.onnx --key key.txt -o out/keyed.onnx";
    let output = lab.shell(script).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{err}");
    assert!(contents(lab.dir.path()) == before);
    // Never over the model or the key.
    let onto = |path: &str, more: &[&str]| {
        let args = [
            "inputs", "rewrite", "vit.onnx", "--key", "key.txt", "-o", path,
        ];
        lab.expect(2, &[&args[..], more].concat());
        assert!(contents(lab.dir.path()) == before, "{path}");
    };
    onto("vit.onnx", &[]);
    onto("focus_padded.onnx", &[]);
    if let Some(disk) = Disk::mount(lab.path("disk")) {
        let _ = fs::write(disk.0.join("rest"), vec![0; 4 << 20]);
        let args = [
            "inputs",
            "rewrite",
            "vit.onnx",
            "--key",
            "key.txt",
            "-o",
            "disk/keyed.onnx",
        ];
        lab.expect(7, &args);
        assert_eq!(files(&disk.0), [disk.0.join("rest")]);
    }
}

#[test]
fn external_data_are_rewritten_beside_the_model() {
    if !has_onnxruntime() {
        return;
    }
    let lab = lab();
    let square = |name: &str| ints_attribute(name, &[4, 4]);
    let model = GraphBuilder::new("patches")
        .input("x", &[1, 3, 32, 32])
        .output("y", &[1, 16, 8, 8])
        .initializer(external(
            "patches",
            &[16, 3, 4, 4],
            "w/a.bin",
            Some(4096),
            None,
        ))
        .initializer(weights("bias", &[16], 1))
        .node(node_with(
            "Conv",
            &["x", "patches", "bias"],
            &["z"],
            vec![square("kernel_shape"), square("strides")],
        ))
        .node(node("Relu", &["z"], &["y"]))
        .encode();
    fs::create_dir_all(lab.path("plain/w")).unwrap();
    fs::write(lab.path("plain/vit.onnx"), model).unwrap();
    let mut elements = vec![7; 4096];
    elements.extend(le_bytes(&floats(16 * 48, 2)));
    fs::write(lab.path("plain/w/a.bin"), elements).unwrap();
    let before = contents(&lab.path("plain"));
    let args = [
        "inputs",
        "rewrite",
        "plain/vit.onnx",
        "--key",
        "key.txt",
        "-o",
        "keyed/vit.onnx",
    ];
    lab.expect(0, &args);
    assert!(contents(&lab.path("plain")) == before);
    let names = |folder: &str| -> Vec<PathBuf> {
        let root = lab.path(folder);
        let found = files(&root).into_iter();
        found
            .map(|path| path.strip_prefix(&root).unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("keyed"), names("plain"));
    let weights = |folder: &str| fs::read(lab.path(folder).join("w/a.bin")).unwrap();
    let (old, new) = (weights("plain"), weights("keyed"));
    assert!(old.len() == new.len() && old[..4096] == new[..4096] && old != new);
    // Never over the external data of another model.
    let (_, err) = lab.expect(2, &[&args[..], &["--force"]].concat());
    assert!(err.contains("exists"), "{err}");
    assert!(weights("keyed") == new);
}

// --- attacks ----------------------------------------------------------------------------------------------------------

#[test]
fn known_pairs_in_folders_give_the_key() {
    let lab = lab();
    pictures(&lab.path("plain"), 3);
    pictures(&lab.path("plain/more"), 1);
    let encrypt = [
        "inputs", "encrypt", "plain", "--key", "key.txt", "-o", "keyed",
    ];
    lab.expect(0, &encrypt);
    let attack = |pair: &str| {
        let args = [
            "inputs",
            "attack",
            "--key",
            "key.txt",
            "--encrypted",
            "keyed",
            "--pair",
            pair,
        ];
        lab.expect(0, &args)
    };
    let (out, err) = attack("plain");
    assert!(
        out.contains("from 4 known pairs") && out.contains("positions found 100.0 %"),
        "{out}"
    );
    assert_eq!(err, "");
    // In another order.
    fs::create_dir(lab.path("other")).unwrap();
    for number in 0..4 {
        let path = lab.path("other").join(format!("{number}.png"));
        picture(&path, (number + 1) % 3, SIDE);
    }
    let (_, err) = attack("other");
    assert!(err.contains("in the same order?"), "{err}");
}

#[test]
fn a_rewritten_model_alone_gives_the_mask() {
    if !has_onnxruntime() {
        return;
    }
    let lab = Lab::new();
    fixture(&lab, "convmixer.onnx");
    for transforms in ["negative", "shuffle,negative"] {
        let key = [
            "--range",
            "0..1",
            "--transform",
            transforms,
            "-o",
            transforms,
        ];
        lab.expect(0, &[&KEYGEN[..], &key].concat());
        let rewrite = [
            "inputs",
            "rewrite",
            "convmixer.onnx",
            "--key",
            transforms,
            "-o",
            "keyed.onnx",
            "--force",
        ];
        lab.expect(0, &rewrite);
        let attack = ["inputs", "attack", "keyed.onnx", "--key", transforms];
        let (out, _) = lab.expect(0, &attack);
        assert!(
            out.contains("from the rewritten model alone") && out.contains("negated 100.0 %"),
            "{out}"
        );
        let more = ["--public", "convmixer.onnx", "--json"];
        let (out, _) = lab.expect(0, &[&attack[..], &more].concat());
        let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&rows[0]["positions"], &rows[0]["negated"]),
            (&serde_json::Value::Null, &serde_json::json!(1.0)),
        );
        assert_eq!(
            (&rows[1]["positions"], &rows[1]["negated"]),
            (&serde_json::json!(1.0), &serde_json::json!(1.0))
        );
    }
    // The attacker has something.
    lab.expect(2, &["inputs", "attack", "--key", "negative"]);
    let public = [
        "inputs",
        "attack",
        "--key",
        "negative",
        "--public",
        "convmixer.onnx",
    ];
    lab.expect(2, &public);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_told_once() {
    use onnxseal_data::npy::{Stored, write_npz};

    let lab = Lab::new();
    let Some(disk) = Disk::mount(lab.path("disk")) else {
        return;
    };
    lab.expect(0, &["-q", "inputs", "keygen", "--block", "4", "-o", "key"]);
    // Noise, which is packed no further.
    let bytes: Vec<u8> = le_bytes(&floats(1 << 20, 1))
        .into_iter()
        .take(3 << 20)
        .collect();
    let images = Stored {
        name: "images".to_owned(),
        descr: "|u1",
        dims: vec![1024, 3, 32, 32],
        bytes,
    };
    write_npz(&lab.path("a.npz"), &[images]).unwrap();
    let encrypt = [
        "inputs",
        "encrypt",
        "a.npz",
        "--key",
        "key",
        "-o",
        "disk/b.npz",
    ];
    let (out, err) = lab.expect(7, &encrypt);
    assert!(out.is_empty() && !err.contains("ZipWriter"), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    assert!(
        lines[0].starts_with("error: cannot write") && lines.len() == 2,
        "{err}"
    );
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
}

#[test]
fn a_rewriting_that_cannot_be_run_is_not_written() {
    let lab = lab();
    fixture(&lab, "convmixer.onnx");
    let args = [
        "inputs",
        "rewrite",
        "convmixer.onnx",
        "--key",
        "key.txt",
        "-o",
        "keyed.onnx",
    ];
    let run = |args: &[&str]| {
        let mut command = lab.command(args);
        let output = command.env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
        output.output().unwrap()
    };
    let output = run(&args);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("--no-check skips the run"), "{err}");
    assert!(!lab.path("keyed.onnx").exists());
    let output = run(&[&args[..], &["--no-check"]].concat());
    assert!(output.status.success());
    assert!(lab.path("keyed.onnx").exists());
}
