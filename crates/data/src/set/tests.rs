//! Data files of each format, and broken ones.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::images::{Image, Samples};
use crate::options::Resize;

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn load(name: &str, bytes: &[u8]) -> Result<DataSet> {
    let (_dir, path) = file(name, bytes);
    DataSet::load(&path, None, &DataOptions::default())
}

fn reason(result: Result<DataSet>) -> String {
    result.unwrap_err().to_string()
}

fn idx(kind: u8, dims: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, dims.len() as u8];
    dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(elements);
    bytes
}

fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), deflated).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn idx_with_its_labels() {
    let images = idx(8, &[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
    for bytes in [images.clone(), gzipped(&images)] {
        let (dir, path) = file("images-idx3-ubyte", &bytes);
        let labels = dir.path().join("labels.gz");
        fs::write(&labels, gzipped(&idx(8, &[2], &[7, 9]))).unwrap();
        let options = DataOptions {
            scale: Some(2.0),
            ..DataOptions::default()
        };
        let data = DataSet::load(&path, Some(&labels), &options).unwrap();
        assert_eq!((data.n, data.labels), (2, Some(vec![7, 9])));
        assert_eq!(data.arrays[0].dims, [1, 2, 2]);
        assert_eq!(data.arrays[0].values.at(7), 4.0);
    }
}

#[test]
fn broken_idx() {
    assert!(reason(load("a", &idx(8, &[2, 2, 2], &[1; 7]))).contains("ends after 7 of 8"));
    assert!(reason(load("a", &idx(8, &[2, 2, 2], &[1; 9]))).contains("more than the 8"));
    assert!(reason(load("a", &idx(8, &[u32::MAX; 8], &[]))).contains("more elements than can be"));
    let many = idx(8, &[u32::MAX, 60_000], &[]);
    assert!(reason(load("a", &many)).contains("ends after 0 of"));
    assert!(reason(load("a", &gzipped(&many))).contains("limit"));
    assert!(reason(load("a", &idx(8, &[1 << 30, 8], &[]))).contains("ends after 0"));
    assert!(reason(load("a", &idx(8, &[0, 4], &[]))).contains("no samples"));
    assert!(reason(load("a", &idx(8, &[4, 0], &[]))).contains("no samples of shape"));
    assert!(load("a", &gzipped(&idx(8, &[2, 2], &[1; 4]))[..20]).is_err());
    assert!(load("a", &[0, 0, 8]).is_err());
    assert!(load("a", &[]).is_err());
}

#[test]
fn arrays_of_numpy() {
    let x = npy(
        "<f4",
        "(2, 3)",
        &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]
            .map(f32::to_le_bytes)
            .concat(),
    );
    let tokens = npy(">i2", "(2,)", &[0, 5, 255, 255]);
    let labels = npy("|u1", "(2,)", &[1, 0]);
    let data = load(
        "a.npz",
        &npz(&[("x", x.clone()), ("tokens", tokens), ("labels", labels)]),
    )
    .unwrap();
    assert_eq!((data.n, data.labels), (2, Some(vec![1, 0])));
    assert_eq!(data.arrays[1].name.as_deref(), Some("tokens"));
    assert_eq!(data.arrays[1].values, Values::I64(vec![5, -1]));
    assert_eq!(load("a.npy", &x).unwrap().arrays[0].dims, [3]);
}

#[test]
fn broken_arrays_of_numpy() {
    let of = |descr, shape, elements: &[u8]| reason(load("a.npy", &npy(descr, shape, elements)));
    assert!(of("<f4", "(2, 3)", &[0; 23]).contains("ends after 23 of 24"));
    assert!(of("<f4", "(99999999999, 99999999999)", &[]).contains("more elements"));
    assert!(of("<f4", "(99999999999,)", &[]).contains("ends after 0 of"));
    let many = npy("<f4", "(99999999999,)", &[]);
    assert!(reason(load("a.npz", &npz(&[("x", many)]))).contains("limit"));
    let axes = format!("({})", "1, ".repeat(65));
    assert!(of("<f4", &axes, &[0; 4]).contains("65 axes (limit 64)"));
    let mut changed = npz(&[("x", npy("|u1", "(3,)", &[1, 2, 3]))]);
    let at = changed.windows(3).position(|bytes| bytes == [1, 2, 3]);
    changed[at.unwrap()] = 0;
    assert!(load("a.npz", &changed).is_err());
    assert!(of("<f4", "()", &[0; 4]).contains("without axes"));
    assert!(of("<f4", "(-1,)", &[0; 4]).contains("not as NumPy"));
    assert!(of("|O", "(2,)", &[0; 4]).contains("not read"));
    assert!(of("<f3", "(2,)", &[0; 6]).contains("not read"));
    assert!(of("", "(2,)", &[0; 6]).contains("not read"));
    assert!(
        load("a.npy", b"\x93NUMPY\x02\x00\xFF\xFF\xFF\xFF")
            .unwrap_err()
            .to_string()
            .contains("header of")
    );
    assert!(load("a.npy", b"\x93NUM").is_err());
    assert!(load("a.npz", b"PK\x03\x04 and so on").is_err());
    let one = npy("|u1", "(1,)", &[1]);
    let two = npy("|u1", "(2,)", &[1, 2]);
    assert!(
        reason(load(
            "a.npz",
            &npz(&[("x", one.clone()), ("y1", two.clone())])
        ))
        .contains("has 2 samples")
    );
    assert!(
        reason(load("a.npz", &npz(&[("x", one.clone()), ("labels", two)])))
            .contains("1 samples and 2 labels")
    );
    let halves = npy("<f4", "(1,)", &0.5_f32.to_le_bytes());
    assert!(
        reason(load("a.npz", &npz(&[("x", one), ("labels", halves)]))).contains("no whole number")
    );
}

#[test]
fn tables() {
    let data = load("a.csv", b"label,a,b\n1,2,3\n0,4.5,6\n").unwrap();
    assert_eq!((data.n, data.labels), (2, Some(vec![1, 0])));
    assert_eq!(data.arrays[0].values, Values::F64(vec![2.0, 3.0, 4.5, 6.0]));
    assert_eq!(
        load("a.csv", b"1,2,3\n0,4,6\n").unwrap().arrays[0]
            .values
            .len(),
        6
    );
    let (_dir, path) = file("a.csv", b"3,158\n8,12\n");
    let first = DataOptions {
        label_first: true,
        ..DataOptions::default()
    };
    assert_eq!(
        DataSet::load(&path, None, &first).unwrap().labels,
        Some(vec![3, 8])
    );
    assert!(reason(load("a.csv", b"label,a\n1,2\n0,x\n")).contains("row 1, column 1"));
    assert!(load("a.csv", b"label,a\n1,2\n0\n").is_err());
    assert!(reason(load("a.csv", b"label,a\n1.5,2\n")).contains("no whole number"));
    assert!(reason(load("a.csv", b"label,a\n")).contains("no samples"));
    assert!(reason(load("a.csv", b"label\n1\n")).contains("no values"));
    assert!(load("a.csv", b"\xFF\xFE,1\n").is_err());
}

#[test]
fn cifar() {
    let mut bytes = vec![9; 3073];
    bytes[3072] = 7;
    let data = load("a.bin", &bytes).unwrap();
    assert_eq!((data.n, data.labels), (1, Some(vec![9])));
    assert_eq!(data.arrays[0].values.at(3071), 7.0);
    assert_eq!(load("a.bin", &vec![3; 3074]).unwrap().n, 1);
    assert!(reason(load("a.bin", &bytes[1..])).contains("no whole records"));
    assert!(load("a.bin", &[]).is_err());
}

fn save(path: PathBuf, rows: usize, channels: usize, samples: Vec<u8>) {
    let image = Image {
        rows: rows as u32,
        columns: (samples.len() / rows / channels) as u32,
        channels,
        samples: Samples::U8(samples),
    };
    let mut bytes = Vec::new();
    image.encode(&mut bytes).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn images_in_folders() {
    let dir = tempfile::tempdir().unwrap();
    for (class, shade) in [("cat", 10_u8), ("dog", 200)] {
        fs::create_dir(dir.path().join(class)).unwrap();
        let mut samples = [shade, 0, 1].repeat(6 * 4);
        samples[2] = 255;
        save(dir.path().join(class).join("a.png"), 4, 3, samples);
    }
    let options = DataOptions {
        bgr: true,
        crop: Some((4, 4)),
        mean: vec![0.0, 0.0, 10.0],
        ..DataOptions::default()
    };
    let data = DataSet::load(dir.path(), None, &options).unwrap();
    assert_eq!((data.n, data.labels.clone()), (2, Some(vec![0, 1])));
    assert_eq!(data.arrays[0].dims, [4, 4, 3]);
    assert_eq!(
        [0, 1, 2].map(|i| data.arrays[0].values.at(i)),
        [1.0, 0.0, 0.0]
    );
    let options = DataOptions {
        resize: Some(Resize::Shorter(2)),
        limit: Some(1),
        ..DataOptions::default()
    };
    let data = DataSet::load(dir.path(), None, &options).unwrap();
    assert_eq!((data.n, data.arrays[0].dims.clone()), (1, vec![2, 3, 3]));
    // An image of another size, and a file that is not an image.
    save(dir.path().join("dog").join("b.png"), 3, 1, vec![0; 9]);
    assert!(reason(DataSet::load(dir.path(), None, &DataOptions::default())).contains("resize"));
    fs::write(dir.path().join("cat").join("b.jpg"), b"\xFF\xD8\xFFnothing").unwrap();
    assert!(DataSet::load(dir.path(), None, &DataOptions::default()).is_err());
    // Without labels, all images of a folder and the folders below it.
    for name in ["cat/b.jpg", "dog/b.png"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    save(dir.path().join("b.png"), 4, 3, vec![0; 72]);
    let options = DataOptions {
        unlabelled: true,
        ..DataOptions::default()
    };
    let data = DataSet::load(dir.path(), None, &options).unwrap();
    let shades = [0, 1, 2].map(|i| data.arrays[0].values.at(i * 72));
    assert_eq!((data.n, shades), (3, [0.0, 10.0, 200.0]));
    let empty = tempfile::tempdir().unwrap();
    assert!(
        reason(DataSet::load(empty.path(), None, &DataOptions::default())).contains("no images")
    );
}

#[test]
fn samples_are_drawn_by_the_seed() {
    let bytes: Vec<u8> = (0..100)
        .flat_map(|i| format!("{i},{i}\n").into_bytes())
        .collect();
    let (_dir, path) = file("a.csv", &bytes);
    let draw = |seed| {
        let options = DataOptions {
            limit: Some(10),
            seed,
            label_first: true,
            ..DataOptions::default()
        };
        DataSet::load(&path, None, &options)
            .unwrap()
            .labels
            .unwrap()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!(draw(3).is_sorted() && draw(3).len() == 10);
}

#[test]
fn what_is_no_data_set_is_named() {
    assert!(reason(load("a.txt", b"hello")).contains("not a data set"));
    let options = DataOptions {
        std: vec![0.0],
        ..DataOptions::default()
    };
    let (_dir, path) = file("a.csv", b"1,2\n");
    assert!(DataSet::load(&path, None, &options).is_err());
    assert!(matches!(
        DataSet::load(&path.with_extension("npy"), None, &DataOptions::default()),
        Err(Error::Io { .. })
    ));
}

/// Drawing samples while reading gives the samples drawn from the whole file.
#[test]
fn what_is_wanted_of_each_format_is_what_all_of_it_has_there() {
    let n = 300_usize;
    let pixels: Vec<u8> = (0..n * 12).map(|i| (i * 7 + i / 12) as u8).collect();
    let array = npy("|u1", "(300, 3, 4)", &pixels);
    let wide: Vec<u8> = (0..n * 3073).map(|i| (i * 7 + i / 3073) as u8).collect();
    let labels = npy("|u1", "(300,)", &pixels[..n]);
    let table: String = (0..n)
        .map(|i| format!("{},{}.5,{i}\n", i % 7, i * 3))
        .collect();
    let idx = idx(8, &[n as u32, 3, 4], &pixels);
    for (name, bytes) in [
        ("a.npy", array.clone()),
        ("a.npz", npz(&[("x", array), ("labels", labels)])),
        ("idx", idx.clone()),
        ("idx.gz", gzipped(&idx)),
        ("a.bin", wide),
        ("a.csv", format!("label,a,b\n{table}").into_bytes()),
    ] {
        let (_dir, path) = file(name, &bytes);
        let read = |limit, first| {
            let options = DataOptions {
                limit,
                first,
                seed: 5,
                ..DataOptions::default()
            };
            DataSet::load(&path, None, &options).unwrap()
        };
        let all = read(None, false);
        for (limit, first) in [(9, false), (9, true), (n, false), (n + 1, true)] {
            let options = DataOptions {
                limit: Some(limit),
                first,
                seed: 5,
                ..DataOptions::default()
            };
            let (arrays, labels) = (all.arrays.clone(), all.labels.clone());
            let wanted = DataSet::from_arrays(name.into(), arrays, labels, &options).unwrap();
            let found = read(Some(limit), first);
            assert_eq!(found.n, limit.min(n), "{name}");
            assert_eq!(found.arrays[0].values, wanted.arrays[0].values, "{name}");
            assert_eq!(found.arrays[0].dims, wanted.arrays[0].dims, "{name}");
            assert_eq!(found.labels, wanted.labels, "{name}");
        }
    }
}

/// Equal numbers are kept of both, although they do not match.
#[test]
fn labels_of_another_number_are_refused_whatever_is_kept() {
    let (dir, path) = file("x.npy", &npy("|u1", "(40, 2)", &[1; 80]));
    for (name, bytes) in [
        ("y.npy", npy("|u1", "(50,)", &[1; 50])),
        ("y.csv", b"1\n".repeat(50)),
        ("y", idx(8, &[50], &[1; 50])),
        ("y.npz", npz(&[("labels", npy("|u1", "(50,)", &[1; 50]))])),
    ] {
        let labels = dir.path().join(name);
        fs::write(&labels, bytes).unwrap();
        let options = DataOptions {
            limit: Some(10),
            ..DataOptions::default()
        };
        let found = reason(DataSet::load(&path, Some(&labels), &options));
        assert!(
            found.contains("40 samples and 50 labels"),
            "{name}: {found}"
        );
    }
}

/// Overlapping entries of an archive unpack to more than separate ones could.
#[test]
fn archives_that_use_their_bytes_twice_are_refused() {
    const N: u16 = 200;
    let rows = 1_000_000;
    let one = npz(&[("000", npy("|u1", "(1000000, 1)", &vec![0; rows]))]);
    let at = |signature: &[u8]| {
        one.windows(4)
            .rposition(|bytes| bytes == signature)
            .unwrap()
    };
    let (directory, end) = (at(b"PK\x01\x02"), at(b"PK\x05\x06"));
    let mut bytes = one[..directory].to_vec();
    for i in 0..N {
        let mut entry = one[directory..end].to_vec();
        entry[46..49].copy_from_slice(format!("{i:03}").as_bytes());
        bytes.extend(entry);
    }
    let len = u32::from(N) * (end - directory) as u32;
    let mut last = one[end..].to_vec();
    last[8..10].copy_from_slice(&N.to_le_bytes());
    last[10..12].copy_from_slice(&N.to_le_bytes());
    last[12..16].copy_from_slice(&len.to_le_bytes());
    bytes.extend(last);
    let (_dir, path) = file("a.npz", &bytes);
    let options = DataOptions {
        limit: Some(1),
        ..DataOptions::default()
    };
    let found = reason(DataSet::load(&path, None, &options));
    assert!(found.contains("unpack to no more than"), "{found}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_regular_file_is_refused_and_waits_for_nobody() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let (dir, data) = file("x.npy", &npy("|u1", "(1, 1)", &[1]));
    for name in ["a.npz", "a.npy", "a.csv", "a.bin", "a", "class/a.png"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (data, labels) = match name {
            "class/a.png" => (dir.path(), None),
            _ => (&*data, Some(&*path)),
        };
        for error in [
            DataSet::load(data, labels, &DataOptions::default()).unwrap_err(),
            DataSet::load(&path, None, &DataOptions::default()).unwrap_err(),
        ] {
            let Error::Io { source, .. } = error else {
                panic!("{name}: {error}");
            };
            assert_eq!(source.to_string(), "it is a pipe, not a regular file");
        }
    }
}
