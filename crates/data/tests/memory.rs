//! Small files that unpack to a lot: what reading them takes of memory. It is the process's peak,
//! so one test has all of them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use onnxseal_data::images::{self, Image, Samples};
use onnxseal_data::npy::Header;
use onnxseal_data::{DataOptions, DataSet};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// What all of it may take, in MiB.
const MOST: u64 = 300;

/// The peak so far, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() >> 10
}

/// Zeros, so many MiB of them.
fn zeros(to: &mut impl Write, mib: usize) {
    let piece = vec![0; 1 << 20];
    (0..mib).for_each(|_| to.write_all(&piece).unwrap());
}

/// An `.npz` of samples of 8 bytes, packed: as many samples as there can be.
fn npz(path: &Path, mib: usize) {
    let mut archive = ZipWriter::new(fs::File::create(path).unwrap());
    let packed = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    archive.start_file("x.npy", packed).unwrap();
    let header = Header::bytes_of("|u1", &[mib << 17, 8]);
    archive.write_all(&header).unwrap();
    zeros(&mut archive, mib);
    archive.finish().unwrap();
}

fn gzipped_idx(path: &Path, mib: usize) {
    let mut gz = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    let dims = [(mib as u32) << 10, 1 << 10].map(u32::to_be_bytes).concat();
    gz.write_all(&[&[0, 0, 8, 2], &dims[..]].concat()).unwrap();
    zeros(&mut gz, mib);
    gz.finish().unwrap();
}

/// 8 x 8 pixels.
fn grey() -> Image {
    Image {
        rows: 8,
        columns: 8,
        channels: 1,
        samples: Samples::U8(vec![7; 64]),
    }
}

/// A PNG with a profile and a text that unpack to so many MiB each.
fn profiled_png(path: &Path, mib: usize) {
    let mut png = Vec::new();
    grey().encode(&mut png).unwrap();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    zeros(&mut packed, mib);
    let packed = packed.finish().unwrap();
    // Behind the signature and IHDR.
    let (before, behind) = png.split_at(8 + 25);
    let mut bytes = before.to_vec();
    for kind in [b"iCCP", b"zTXt"] {
        bytes.extend(chunk(kind, &[b"name\0\0", &packed[..]].concat()));
    }
    bytes.extend(behind);
    fs::write(path, bytes).unwrap();
}

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(bytes);
    let len = (bytes.len() as u32).to_be_bytes();
    [&len[..], kind, bytes, &sum.sum().to_be_bytes()].concat()
}

/// A black PNG of 2^14 x 2^14 grey pixels.
fn large_png(path: &Path) {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    zeros(&mut packed, 256);
    packed.write_all(&[0; 1 << 14]).unwrap();
    let side = (1_u32 << 14).to_be_bytes();
    let chunks = [
        chunk(b"IHDR", &[&side[..], &side, &[8, 0, 0, 0, 0]].concat()),
        chunk(b"IDAT", &packed.finish().unwrap()),
        chunk(b"IEND", &[]),
    ];
    fs::write(path, [b"\x89PNG\r\n\x1A\n", &chunks.concat()[..]].concat()).unwrap();
}

/// A JPEG that says that it has 2^14 x 2^14 pixels.
fn large_jpeg(path: &Path) {
    let mut bytes = include_bytes!("../../../fixtures/inputs/photo.jpg").to_vec();
    // SOF0: its length, bits of a value, rows and columns.
    let frame = [0xFF, 0xC0, 0, 17, 8, 0, 8, 0, 16];
    let at = bytes.windows(frame.len()).position(|there| there == frame);
    let at = at.unwrap() + 5;
    bytes[at..at + 4].copy_from_slice(&[0x40, 0, 0x40, 0]);
    fs::write(path, bytes).unwrap();
}

#[test]
fn memory_is_in_proportion_to_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    npz(&at("many.npz"), 512);
    gzipped_idx(&at("many.gz"), 512);
    profiled_png(&at("profile.png"), 512);
    large_png(&at("large.png"));
    large_jpeg(&at("large.jpg"));
    fs::create_dir(at("class")).unwrap();
    fs::copy(at("profile.png"), at("class/a.png")).unwrap();
    let before = peak();
    assert!(before < MOST, "making them takes {before} MiB");

    for (name, width) in [("many.npz", 8), ("many.gz", 1 << 10)] {
        let len = fs::metadata(at(name)).unwrap().len();
        assert!(len < 4 << 20, "{name} has {len} bytes");
        // All of it is refused by what it says; some of it is read.
        let all = DataSet::load(&at(name), None, &DataOptions::default());
        let all = all.err().unwrap().to_string();
        assert!(all.contains("bytes of memory"), "{all}");
        let mut options = DataOptions::default();
        options.limit = Some(100);
        let some = DataSet::load(&at(name), None, &options).unwrap();
        assert_eq!((some.n, some.arrays[0].values.len()), (100, 100 * width));
    }
    assert_eq!(images::decode(&at("profile.png")).unwrap(), grey());
    let folder = DataSet::load(dir.path(), None, &DataOptions::default()).unwrap();
    assert_eq!(folder.n, 1);
    for name in ["large.png", "large.jpg"] {
        let large = images::decode(&at(name)).err().unwrap().to_string();
        assert!(large.contains("bytes of memory"), "{name}: {large}");
    }
    let after = peak();
    assert!(after < MOST, "reading them takes {after} MiB");
}
