//! Round trips of each format, refusals, and second runs.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use half::f16;
use onnxseal_data::images::{Image, Samples, decode};
use onnxseal_data::npy::Header;
use onnxseal_store::Error as StoreError;
use tempfile::TempDir;
use zip::CompressionMethod::Deflated;
use zip::write::SimpleFileOptions;

use super::*;
use crate::key::{Layout, Order, Spec, Transform};
use crate::{Error, Scale, Silent, ValueType};

use Transform::{Ffx, Negative, Orthogonal, Shuffle};

fn spec(transforms: &[Transform], block: u32, channels: u32) -> Spec {
    Spec {
        transforms: transforms.to_vec(),
        block,
        channels,
        layout: Layout::Nchw,
        order: Order::Rgb,
        range: (0.0, 255.0),
        normalisation: None,
    }
}

fn key(transforms: &[Transform], channels: u32) -> InputKey {
    InputKey::generate(spec(transforms, 4, channels)).unwrap()
}

fn pixels(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + (i >> 8)) as u8).collect()
}

fn npy(descr: &str, dims: &[usize], elements: &[u8]) -> Vec<u8> {
    [&Header::bytes_of(descr, dims)[..], elements].concat()
}

/// A folder to work in.
struct Room(TempDir);

impl Room {
    fn new() -> Room {
        Room(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, from: &str, to: &str, key: &InputKey, decrypt: bool) -> Result<Report> {
        let mut options = options();
        options.decrypt = decrypt;
        encrypt(&[self.path(from)], &self.path(to), key, &options, &Silent)
    }

    /// Transforms, and back, without failures.
    fn round_trip(&self, name: &str, key: &InputKey) -> (Vec<u8>, Vec<u8>) {
        for (from, to, decrypt) in [
            (name.to_owned(), format!("keyed-{name}"), false),
            (format!("keyed-{name}"), format!("back-{name}"), true),
        ] {
            let report = self.run(&from, &to, key, decrypt).unwrap();
            assert_eq!(report.failed, [], "{name}");
            assert_eq!(report.n_written, 1, "{name}");
        }
        let read = |path| fs::read(self.path(path)).unwrap();
        (
            read(&format!("keyed-{name}")),
            read(&format!("back-{name}")),
        )
    }

    /// Returns the reason for refusing a file, and checks that nothing is written.
    fn reason(&self, name: &str, bytes: &[u8], key: &InputKey) -> String {
        self.write(name, bytes);
        let report = self.run(name, "out", key, false).unwrap();
        assert!(!self.path("out").exists());
        assert_eq!((report.n_failed, report.n_written), (1, 0));
        let [failed] = &report.failed[..] else {
            panic!("{report:?}");
        };
        assert_eq!(failed.path, self.path(name));
        failed.reason.clone()
    }
}

fn options() -> EncryptOptions {
    let mut options = EncryptOptions::default();
    options.output.flush = onnxseal_store::Flush::Later;
    options
}

#[test]
fn arrays_of_numpy_keep_all_but_their_pixels() {
    let room = Room::new();
    let of = |n: usize, width: usize| -> Vec<u8> {
        let values = pixels(n).into_iter();
        match width {
            1 => values.collect(),
            2 => values
                .flat_map(|v| f16::from_f32(f32::from(v)).to_le_bytes())
                .collect(),
            _ => values.flat_map(|v| f32::from(v).to_le_bytes()).collect(),
        }
    };
    let both = key(&[Shuffle, Negative], 3);
    let grey = key(&[Shuffle, Negative], 1);
    // Several chunks; one image; none.
    for (descr, width) in [("|u1", 1), ("|i1", 1), ("<u2", 2), ("<f2", 2), ("<f4", 4)] {
        for (dims, key) in [
            (&[1500, 3, 16, 24][..], &both),
            (&[3, 8, 8], &both),
            (&[0, 3, 8, 8], &both),
            (&[70, 8, 12], &grey),
        ] {
            let n: usize = dims.iter().product();
            let plain = npy(descr, dims, &of(n, width));
            let name = format!(
                "{}-{}.npy",
                descr.trim_matches(['<', '|']),
                dims.len() + n % 7
            );
            room.write(&name, &plain);
            let (keyed, back) = room.round_trip(&name, key);
            assert_eq!(back, plain);
            assert_eq!(keyed.len(), plain.len());
            assert_eq!(keyed[..128], plain[..128]);
            assert_eq!(keyed == plain, n == 0);
            for other in [
                name.clone(),
                format!("keyed-{name}"),
                format!("back-{name}"),
            ] {
                fs::remove_file(room.path(&other)).unwrap();
            }
        }
    }
}

#[test]
fn a_file_is_transformed_as_an_array_is() {
    let room = Room::new();
    let key = key(&[Shuffle, Negative], 3);
    let images = pixels(5 * 3 * 8 * 8);
    room.write("a.npy", &npy("|u1", &[5, 3, 8, 8], &images));
    let (keyed, _) = room.round_trip("a.npy", &key);
    let mut wanted = images.clone();
    let cipher = key.cipher(8, 8).unwrap();
    cipher
        .apply_in_place(&mut wanted[..], Scale::Pixels)
        .unwrap();
    assert_eq!(keyed[128..], wanted);
}

#[test]
fn ffx_changes_the_type() {
    let room = Room::new();
    let key = key(&[Shuffle, Ffx], 3);
    let plain = npy("|u1", &[9, 3, 8, 8], &pixels(9 * 192));
    room.write("a.npy", &plain);
    let (keyed, back) = room.round_trip("a.npy", &key);
    assert_eq!(back, plain);
    assert_eq!(keyed, {
        let mut made = vec![0_u16; 9 * 192];
        let cipher = key.cipher(8, 8).unwrap();
        cipher
            .apply(&pixels(9 * 192)[..], &mut made[..], Scale::Pixels)
            .unwrap();
        let bytes: Vec<u8> = made.iter().flat_map(|v| v.to_le_bytes()).collect();
        npy("<u2", &[9, 3, 8, 8], &bytes)
    });
    let mut options = options();
    options.result = Some(ValueType::F32);
    let (from, floats) = (room.path("a.npy"), room.path("floats.npy"));
    let report = encrypt(&[from], &floats, &key, &options, &Silent).unwrap();
    assert_eq!(report.n_images, 9);
    assert_eq!(fs::read(&floats).unwrap().len(), 128 + 9 * 192 * 4);
    options.decrypt = true;
    options.result = Some(ValueType::U8);
    let again = room.path("again.npy");
    encrypt(&[floats], &again, &key, &options, &Silent).unwrap();
    assert_eq!(fs::read(again).unwrap(), plain);
    let orthogonal = self::key(&[Orthogonal], 3);
    for key in [&key, &orthogonal] {
        let reason = room.reason("b.png", &png(&rgb(4, 4)), key);
        assert!(reason.contains(".npy and .npz can"), "{reason}");
    }
    let reason = room.reason("c.npy", &plain, &orthogonal);
    assert!(reason.contains("u8"), "{reason}");
}

fn zipped(entries: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn entries(bytes: Vec<u8>) -> Vec<(String, zip::CompressionMethod, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let n = archive.len();
    let entry = |i| {
        let mut entry = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.name().to_owned(), entry.compression(), bytes)
    };
    (0..n).map(entry).collect()
}

#[test]
fn of_a_zip_images_are_transformed_and_the_rest_copied() {
    let room = Room::new();
    let key = key(&[Shuffle, Negative], 3);
    let images = npy("|u1", &[900, 3, 32, 32], &pixels(900 * 3072));
    let plain = [
        ("x_train.npy", images.clone()),
        ("y.npy", npy("|u1", &[2, 3, 4, 4], &pixels(96))),
        ("names.npy", npy("|u1", &[7], &pixels(7))),
        ("words.npy", b"\x93NUMPY\x01\x00\x04\x00{'d'".to_vec()),
        ("readme.txt", b"hello".to_vec()),
    ];
    for (method, name) in [
        (zip::CompressionMethod::Stored, "a.npz"),
        (zip::CompressionMethod::Deflated, "b.npz"),
    ] {
        room.write(name, &zipped(&plain, method));
        let (keyed, back) = room.round_trip(name, &key);
        let (keyed, back) = (entries(keyed), entries(back));
        for ((i, (wanted_name, wanted)), (keyed, back)) in
            plain.iter().enumerate().zip(keyed.into_iter().zip(back))
        {
            assert_eq!((&*keyed.0, keyed.1), (*wanted_name, method));
            assert_eq!(&back.2, wanted);
            assert_eq!(keyed.2 == *wanted, i != 0);
        }
        let report = room
            .run(name, &format!("more-{name}"), &key, false)
            .unwrap();
        let transformed: Vec<_> = report.arrays.iter().filter(|a| a.is_transformed).collect();
        assert_eq!(
            (report.arrays.len(), transformed.len(), report.n_images),
            (5, 1, 900)
        );
        assert_eq!(transformed[0].name, "x_train");
    }
    let other = [
        ("a.npy", images),
        ("b.npy", npy("|u1", &[2, 1, 4, 4], &pixels(32))),
    ];
    let reason = room.reason(
        "c.npz",
        &zipped(&other, zip::CompressionMethod::Stored),
        &key,
    );
    assert!(
        reason.contains("array \"b\"") && reason.contains("1 channel, and the key is for 3"),
        "{reason}"
    );
    let none = [("a.npy", npy("|u1", &[2, 4, 4], &pixels(32)))];
    let reason = room.reason(
        "d.npz",
        &zipped(&none, zip::CompressionMethod::Stored),
        &key,
    );
    assert!(reason.contains("none of its arrays"), "{reason}");
    // A flipped bit in a packed array is detected at its end.
    let mut broken = zipped(&plain[..1], zip::CompressionMethod::Stored);
    broken[5000] ^= 1;
    let reason = room.reason("e.npz", &broken, &key);
    assert!(reason.contains("checksum"), "{reason}");
}

fn png(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.encode(&mut bytes).unwrap();
    bytes
}

fn image(columns: u32, rows: u32, channels: usize) -> Image {
    Image {
        rows,
        columns,
        channels,
        samples: Samples::U8(pixels((columns * rows) as usize * channels)),
    }
}

fn rgb(columns: u32, rows: u32) -> Image {
    image(columns, rows, 3)
}

#[test]
fn image_files_are_those_of_the_reference() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/vectors/inputs.json"
    );
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let room = Room::new();
    let files = vectors["files"].as_array().unwrap();
    for (i, case) in files.iter().enumerate() {
        let key = InputKey::from_text(case["key"].as_str().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..72).map(|i| (31 * i + 1) as u8).collect();
        let image = Image {
            samples: Samples::U8(bytes),
            ..rgb(6, 4)
        };
        let name = format!("{i}.png");
        room.write(&name, &png(&image));
        let (keyed, back) = room.round_trip(&name, &key);
        room.write("keyed.png", &keyed);
        room.write("back.png", &back);
        let keyed = decode(&room.path("keyed.png")).unwrap();
        let wanted = case["keyed"].as_array().unwrap().iter();
        let wanted: Vec<u8> = wanted.map(|v| v.as_u64().unwrap() as u8).collect();
        assert_eq!(keyed.samples, Samples::U8(wanted));
        assert_eq!(decode(&room.path("back.png")).unwrap(), image);
    }
    assert_eq!(files.len(), 4);
}

#[test]
fn folders_keep_their_tree_and_second_runs_do_what_is_missing() {
    let room = Room::new();
    let key = key(&[Shuffle, Negative], 3);
    let wide = (0..8 * 12 * 3).map(|i| (i * 40_503 % 65_521) as u16);
    let wide = Image {
        samples: Samples::U16(wide.collect()),
        ..rgb(8, 12)
    };
    for (name, image) in [
        ("in/cat/1.png", rgb(8, 8)),
        ("in/cat/2.PNG", rgb(16, 8)),
        ("in/dog/deep/1.png", wide),
    ] {
        room.write(name, &png(&image));
    }
    let jpeg = include_bytes!("../../../../fixtures/inputs/photo.jpg");
    room.write("in/dog/2.jpeg", jpeg);
    room.write("in/labels.csv", b"1,2");
    for array in ["a.npz", "b.NPY", "c.bin", "d-idx3-ubyte.gz"] {
        room.write(&format!("in/dog/{array}"), b"");
    }
    let report = room.run("in", "out", &key, false).unwrap();
    assert_eq!(
        (
            report.n_written,
            report.n_images,
            report.n_left_out,
            report.n_failed
        ),
        (4, 4, 5, 0)
    );
    assert_eq!(report.n_arrays_left_out, 2);
    let report = room.run("out", "back", &key, true).unwrap();
    assert_eq!((report.n_written, report.n_failed), (4, 0));
    for (from, to) in [
        ("in/cat/1.png", "cat/1.png"),
        ("in/cat/2.PNG", "cat/2.PNG"),
        ("in/dog/deep/1.png", "dog/deep/1.png"),
        ("in/dog/2.jpeg", "dog/2.png"),
    ] {
        let read = |path: PathBuf| decode(&path).unwrap();
        let plain = read(room.path(from));
        assert_ne!(read(room.path("out").join(to)), plain);
        assert_eq!(read(room.path("back").join(to)), plain);
    }
    // A second run makes missing outputs, and leaves the others.
    fs::remove_file(room.path("out/dog/2.png")).unwrap();
    room.write("out/cat/1.png", b"mine");
    let report = room.run("in", "out", &key, false).unwrap();
    assert_eq!((report.n_written, report.n_skipped), (1, 3));
    assert_eq!(fs::read(room.path("out/cat/1.png")).unwrap(), b"mine");
    let mut options = options();
    options.output.replace = true;
    let (from, to) = (room.path("in"), room.path("out"));
    let report = encrypt(&[from], &to, &key, &options, &Silent).unwrap();
    assert_eq!((report.n_written, report.n_skipped), (4, 0));
    assert_ne!(fs::read(room.path("out/cat/1.png")).unwrap(), b"mine");
    // No other file exists.
    let files = walkdir::WalkDir::new(room.path("out")).into_iter();
    assert_eq!(
        files
            .filter(|e| e.as_ref().unwrap().file_type().is_file())
            .count(),
        4
    );
}

#[test]
fn what_does_not_fit_is_named_and_the_rest_goes_on() {
    let room = Room::new();
    let key = key(&[Shuffle], 3);
    room.write("in/good.png", &png(&rgb(8, 8)));
    room.write("in/size.png", &png(&rgb(8, 10)));
    room.write("in/grey.png", &png(&image(8, 8, 1)));
    room.write("in/alpha.png", &png(&image(8, 8, 4)));
    room.write("in/broken.png", &png(&rgb(8, 8))[..60]);
    room.write("in/text.jpg", b"text");
    room.write("in/twice.jpg", b"");
    room.write("in/twice.png", &png(&rgb(8, 8)));
    let report = room.run("in", "out", &key, false).unwrap();
    assert_eq!((report.n_written, report.n_failed), (2, 6));
    for (name, wanted) in [
        ("size.png", "10 rows and 8 columns"),
        ("grey.png", "1 channel, and the key is for 3"),
        ("alpha.png", "alpha"),
        ("broken.png", "ends too early"),
        ("text.jpg", "can be decoded ("),
        ("twice.jpg", "rename one"),
    ] {
        let path = room.path("in").join(name);
        let failed = report.failed.iter().find(|failed| failed.path == path);
        let failed = failed.unwrap();
        assert!(failed.reason.contains(wanted), "{name}: {failed:?}");
        assert_eq!(
            failed.is_misfit,
            ["size.png", "grey.png"].contains(&name),
            "{name}"
        );
        assert!(!room.path("out").join(name).with_extension("png").exists() || name == "twice.jpg");
    }
    // A keyed JPEG is impossible.
    let report = room.run("in", "back", &key, true).unwrap();
    assert!(
        report
            .failed
            .iter()
            .any(|f| f.reason.contains("never JPEG"))
    );
}

#[test]
fn sources_and_outputs_that_do_not_go_together() {
    let room = Room::new();
    let key = key(&[Shuffle], 3);
    let array = npy("|u1", &[1, 3, 8, 8], &pixels(192));
    let (a, b) = (
        room.write("in/a.npy", &array),
        room.write("in/b.npy", &array),
    );
    let out = room.path("out");
    let run =
        |sources: &[PathBuf], output: &Path| encrypt(sources, output, &key, &options(), &Silent);
    let usage = |result: Result<Report>| match result {
        Err(Error::Usage(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(usage(run(&[], &out)).contains("nothing"));
    assert!(usage(run(&[a.clone(), a.clone()], &out)).contains("both become"));
    for inside in ["in", "in/out", "in/out/more", "out/../in/x"] {
        let reason = usage(run(&[room.path("in")], &room.path(inside)));
        assert!(reason.contains("lies in"), "{inside}: {reason}");
    }
    assert!(matches!(
        run(&[room.path("none")], &out),
        Err(Error::Io { .. })
    ));
    // Names of other formats; one file where a folder has to be.
    let image = room.write("one/a.jpg", b"");
    for (sources, to, wanted) in [
        (vec![&a], "out.npz", "end in .npy"),
        (vec![&a], "out.PNG", "end in .npy"),
        (vec![&image], "out.jpg", "end in .png"),
        (vec![&a], "out.csv", "end in .npy"),
        (vec![&a, &b], "out.npz", "for several sources"),
        (vec![&a, &image], "in/a.npy", "for several sources"),
        (vec![&room.path("one")], "in/a.npy", "for a folder"),
    ] {
        let sources: Vec<PathBuf> = sources.into_iter().cloned().collect();
        let reason = usage(run(&sources, &room.path(to)));
        assert!(reason.contains(wanted), "{to}: {reason}");
    }
    // One file, into an existing folder, and several.
    assert_eq!(run(std::slice::from_ref(&a), &out).unwrap().n_written, 1);
    let again = run(std::slice::from_ref(&a), &out);
    assert!(matches!(
        again,
        Err(Error::Store(StoreError::OutputExists { .. }))
    ));
    fs::create_dir(room.path("folder")).unwrap();
    run(std::slice::from_ref(&a), &room.path("folder")).unwrap();
    assert!(room.path("folder/a.npy").is_file());
    let report = run(&[a, b], &room.path("folder")).unwrap();
    assert_eq!((report.n_written, report.n_skipped), (1, 1));
}

#[test]
fn arrays_that_are_refused() {
    let room = Room::new();
    let key = key(&[Shuffle], 3);
    let bytes = [0; 4096];
    for (file, wanted) in [
        (
            npy(">f4", &[1, 3, 8, 8], &bytes[..768]),
            "highest byte first",
        ),
        (npy("<f8", &[1, 3, 8, 8], &bytes[..1536]), "8 bytes (Float)"),
        (npy("|b1", &[1, 3, 8, 8], &bytes[..192]), "no pixels"),
        (npy("|u1", &[1, 3, 8, 8], &bytes[..191]), "ends too early"),
        (npy("|u1", &[1, 3, 8, 8], &bytes[..193]), "more than"),
        (
            npy("|u1", &[1, 8, 8, 3], &bytes[..192]),
            "8 channels, and the key is for 3",
        ),
        (
            npy("|u1", &[1, 3, 8, 6], &bytes[..144]),
            "8 rows and 6 columns",
        ),
        (npy("|u1", &[192], &bytes[..192]), "1 axes"),
        (npy("|u1", &[], &bytes[..1]), "0 axes"),
        (b"\x93NUMPY".to_vec(), "ends too early"),
        (b"no array".to_vec(), "not an array"),
    ] {
        let reason = room.reason("a.npy", &file, &key);
        assert!(reason.contains(wanted), "{reason}");
    }
    let fortran = npy("|u1", &[1, 3, 8, 8], &bytes[..192]);
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    let fortran = [&fortran[..at], b"True ", &fortran[at + 5..]].concat();
    assert!(room.reason("a.npy", &fortran, &key).contains("Fortran"));
    for name in ["a.bin", "train-images-idx3-ubyte.gz", "a.csv"] {
        let reason = room.reason(name, &bytes, &key);
        assert!(
            reason.contains("save images of other formats as .npy"),
            "{reason}"
        );
    }
}

/// A header that claims more images than the file's bytes allow is not trusted.
#[test]
fn files_that_say_that_they_have_large_images_have_to_be_large() {
    let room = Room::new();
    let key = key(&[Shuffle], 1);
    let side = 8192;
    let zeros = vec![0; side * side];
    let array = npy("|u1", &[1, 1, side, side], &zeros);
    for (name, bytes) in [
        ("a.npz", zipped(&[("x.npy", array)], Deflated)),
        ("a.npy", npy("|u1", &[0, 1, side, side], &[])),
    ] {
        assert!(bytes.len() < 1 << 19, "{name} has {} bytes", bytes.len());
        let reason = room.reason(name, &bytes, &key);
        assert!(reason.contains("bytes of memory"), "{name}: {reason}");
    }
    let array = npy("|u1", &[1 << 20, 1, 8, 8], &[]);
    let reason = room.reason("a.npz", &zipped(&[("x.npy", array)], Deflated), &key);
    assert!(reason.contains("unpack to no more than"), "{reason}");
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_and_waits_for_nobody() {
    let room = Room::new();
    let key = key(&[Shuffle], 3);
    for name in ["a.npy", "a.npz", "a.png"] {
        let made = std::process::Command::new("mkfifo")
            .arg(room.path(name))
            .status();
        assert!(made.unwrap().success());
        let report = room.run(name, "out", &key, false).unwrap();
        let [failed] = &report.failed[..] else {
            panic!("{report:?}");
        };
        assert_eq!(
            failed.reason,
            "cannot read it: it is a pipe, not a regular file"
        );
        assert!(!room.path("out").exists());
    }
}

#[test]
fn the_range_of_floats_is_told() {
    let room = Room::new();
    let key = key(&[Shuffle, Negative], 1);
    let floats = |more: [f32; 2]| {
        let mut values = vec![0.5; 62];
        values.extend(more);
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        npy("<f4", &[1, 8, 8], &bytes)
    };
    room.write("a.npy", &floats([-2.0, 7.5]));
    room.write("none.npy", &floats([f32::NAN, 0.5]));
    room.write("bytes.npy", &npy("|u1", &[1, 8, 8], &[9; 64]));
    let told = |from: &str, decrypt| {
        let report = room.run(from, &format!("out-{from}-{decrypt}.npy"), &key, decrypt);
        report.unwrap().floats
    };
    assert_eq!(told("a.npy", false), Some((-2.0, 7.5)));
    assert_eq!(told("none.npy", false), Some((0.5, 0.5)));
    assert_eq!(told("bytes.npy", false), None);
    assert_eq!(told("a.npy", true), None);
}

#[test]
fn a_cancelled_run_leaves_nothing_in_part() {
    /// Cancels after some bytes.
    #[derive(Default)]
    struct Enough(AtomicU64);
    impl Progress for Enough {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
        fn is_cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed) > 0
        }
    }
    let room = Room::new();
    let key = key(&[Shuffle], 3);
    let plain = npy("|u1", &[2000, 3, 32, 32], &pixels(2000 * 3072));
    let from = room.write("a.npy", &plain);
    let out = room.path("out.npy");
    let result = encrypt(&[from], &out, &key, &options(), &Enough::default());
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(fs::read_dir(room.0.path()).unwrap().count(), 1);
}
