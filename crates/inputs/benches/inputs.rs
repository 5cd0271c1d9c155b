//! How fast images become keyed ones, beside NumPy, and data sets and models, beside `cp`: what is
//! asked, what is measured.
//!
//! `cargo bench -p onnxseal-inputs --bench inputs [-- FOLDER [PART...]]`: works in FOLDER (a
//! temporary one by default), which needs 1.1 GB; all parts (`apply`, `encrypt`, `rewrite`) or
//! those named. NumPy is that of the Python in `PYTHON`, or of `.venv`. What is left without the
//! key is measured by fixtures/measure_inputs.py.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use onnxseal_data::npy::Header;
use onnxseal_inputs::rewrite::{Files, rewrite};
use onnxseal_inputs::{
    EncryptOptions, InputKey, Layout, Order, Scale, Silent, Spec, Transform, encrypt,
};
use onnxseal_store::{Flush, Location, OutputOptions};
use onnxseal_testkit::build::{GraphBuilder, int64s, ints_attribute, node, node_with, weights};

/// How often each thing is done; the best is taken, for the machine may have other work.
const ROUNDS: usize = 75;

/// Images of a batch: 4.8 MB.
const N: usize = 32;

const SIDE: usize = 224;

/// Rounds beside `cp`, one of each in turn; the medians are compared.
const TURNS: usize = 15;

fn main() {
    // `cargo bench` adds `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let named: Vec<String> = args.collect();
    let parts: [(&str, &dyn Fn()); 3] = [
        ("apply", &arrays),
        ("encrypt", &|| array(&parent)),
        ("rewrite", &|| vit(&parent)),
    ];
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|other| other == name) {
            part();
        }
    }
}

/// 60,000 images as large as CIFAR's, beside `cp` of the same file.
fn array(parent: &Path) {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let (from, to) = (folder.path().join("a.npy"), folder.path().join("b.npy"));
    let mut bytes = Header::bytes_of("|u1", &[60_000, 3, 32, 32]);
    bytes.extend((0..60_000 * 3072).map(|i: usize| (i * 31 + (i >> 8)) as u8));
    fs::write(&from, bytes).unwrap();
    let mut options = EncryptOptions::default();
    // As `cp` does.
    options.output.flush = Flush::Later;
    let sources = [from.clone()];
    for block in [16, 4] {
        let key = key(
            &[Transform::Shuffle, Transform::Negative],
            block,
            Layout::Nchw,
        );
        let (own, cp) = beside_cp(&from, &to, || {
            let report = encrypt(&sources, &to, &key, &options, &Silent).unwrap();
            assert_eq!(report.n_images, 60_000);
        });
        let asked = 2.0 * cp + 0.1;
        println!(
            "encrypt 60,000 images of 3 KiB, M={block:<2} {own:.3} s   cp {cp:.3} s   asked {asked:.3} s: {}",
            verdict(own <= asked)
        );
    }
}

/// A vision transformer of 350 MB, as far as a rewriting sees one, beside `cp` of the same file.
fn vit(parent: &Path) {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let (from, to) = (folder.path().join("a.onnx"), folder.path().join("b.onnx"));
    let model = transformer(20);
    fs::write(&from, &model).unwrap();
    let key = key(&[Transform::Shuffle, Transform::Negative], 16, Layout::Nchw);
    let mut options = OutputOptions::default();
    // As `cp` does.
    options.flush = Flush::Later;
    let (own, cp) = beside_cp(&from, &to, || {
        let files = Files::open(&Location::from(&from)).unwrap();
        let rewritten = files.with(|source| rewrite(source, &key, None)).unwrap();
        files
            .write(&rewritten.edits, &Location::from(&to), options)
            .unwrap();
    });
    println!(
        "rewrite a ViT of {} MB {own:.3} s   cp {cp:.3} s: {:.2} x, asked 1.2 x: {}",
        model.len() / 1_000_000,
        own / cp,
        verdict(own <= 1.2 * cp)
    );
}

/// Patches, positions, and layers that a rewriting leaves alone.
fn transformer(n_layers: u32) -> Vec<u8> {
    const WIDTH: i64 = 1024;
    const TOKENS: i64 = 196;
    let patch = |name: &str| ints_attribute(name, &[16, 16]);
    let mut graph = GraphBuilder::new("vit")
        .input("pixels", &[1, 3, 224, 224])
        .initializer(weights("patches", &[WIDTH, 3, 16, 16], 1))
        .initializer(weights("bias", &[WIDTH], 2))
        .initializer(int64s("tokens", &[3], &[1, WIDTH, TOKENS]))
        .initializer(weights("positions", &[1, TOKENS, WIDTH], 3))
        .node(node_with(
            "Conv",
            &["pixels", "patches", "bias"],
            &["embedded"],
            vec![patch("kernel_shape"), patch("strides")],
        ))
        .node(node("Reshape", &["embedded", "tokens"], &["columns"]))
        .node(node_with(
            "Transpose",
            &["columns"],
            &["rows"],
            vec![ints_attribute("perm", &[0, 2, 1])],
        ))
        .node(node("Add", &["rows", "positions"], &["x0"]));
    for layer in 0..n_layers {
        let [x, up, wide, down, y] = [
            format!("x{layer}"),
            format!("up{layer}"),
            format!("wide{layer}"),
            format!("down{layer}"),
            format!("x{}", layer + 1),
        ];
        // 16.8 MB.
        graph = graph
            .initializer(weights(&up, &[WIDTH, 2 * WIDTH], 2 * layer))
            .initializer(weights(&down, &[2 * WIDTH, WIDTH], 2 * layer + 1))
            .node(node("MatMul", &[&x, &up], &[&wide]))
            .node(node("MatMul", &[&wide, &down], &[&y]));
    }
    let last = format!("x{n_layers}");
    graph.output(&last, &[1, TOKENS, WIDTH]).encode()
}

/// The medians of both, in seconds: of what makes `to` of `from`, and of `cp`.
fn beside_cp(from: &Path, to: &Path, make: impl Fn()) -> (f64, f64) {
    let copy = || {
        let mut command = Command::new("cp");
        if cfg!(target_os = "linux") {
            // Bytes, also where the file system could share them.
            command.arg("--reflink=never");
        }
        assert!(command.args([from, to]).status().unwrap().success());
    };
    let (mut own, mut cp) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        own.push(time(&make));
        fs::remove_file(to).unwrap();
        cp.push(time(copy));
        fs::remove_file(to).unwrap();
    }
    (median(own), median(cp))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn key(transforms: &[Transform], block: u32, layout: Layout) -> InputKey {
    InputKey::generate(Spec {
        transforms: transforms.to_vec(),
        block,
        channels: 3,
        layout,
        order: Order::Rgb,
        range: (0.0, 255.0),
        normalisation: None,
    })
    .unwrap()
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The least time of some rounds, in seconds.
fn best(mut work: impl FnMut()) -> f64 {
    std::iter::repeat_with(|| time(&mut work))
        .take(ROUNDS)
        .fold(f64::INFINITY, f64::min)
}

fn verdict(is_met: bool) -> &'static str {
    match is_met {
        true => "met",
        false => "NOT met",
    }
}

fn arrays() {
    use Transform::{Negative, Orthogonal, Shuffle};
    let n_values = N * 3 * SIDE * SIDE;
    let images: Vec<u8> = (0..n_values).map(|i| (i * 31 + (i >> 8)) as u8).collect();
    let floats: Vec<f32> = images.iter().map(|value| f32::from(*value)).collect();
    let (mut keyed, mut keyed_floats) = (images.clone(), floats.clone());
    for block in [16, 8, 4, 2] {
        let numpy = numpy_rates(block);
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for transforms in [&[Shuffle][..], &[Shuffle, Negative]] {
                let cipher = key(transforms, block, layout).cipher(SIDE, SIDE).unwrap();
                let seconds = best(|| {
                    cipher
                        .apply(&images[..], &mut keyed[..], Scale::Pixels)
                        .unwrap();
                });
                let rate = n_values as f64 / seconds / 1e9;
                let seconds = best(|| {
                    cipher
                        .apply_in_place(&mut keyed[..], Scale::Pixels)
                        .unwrap()
                });
                let in_place = n_values as f64 / seconds / 1e9;
                let names: Vec<&str> = transforms.iter().map(|t| t.name()).collect();
                print!(
                    "apply u8 {SIDE}x{SIDE}x3 M={block:<2} {layout:?} {:<23} {rate:.2} GB/s, in place {in_place:.2}",
                    names.join(",")
                );
                match numpy {
                    Some([index, masked]) => {
                        let (what, numpy) = match transforms.contains(&Negative) {
                            true => ("index and mask", masked),
                            false => ("index", index),
                        };
                        let ratio = rate / numpy;
                        println!(
                            "   numpy's {what} {numpy:.2}: {ratio:.1} x, asked 1 x: {}",
                            verdict(ratio >= 1.0)
                        );
                    }
                    None => println!("   no numpy found"),
                }
            }
        }
    }
    for (side, block) in [(32, 4), (224, 16)] {
        let cipher = key(&[Shuffle, Negative], block, Layout::Nchw)
            .cipher(side, side)
            .unwrap();
        let one = &mut keyed[..3 * side * side];
        let seconds = best(|| {
            (0..100).for_each(|_| cipher.apply_in_place(&mut *one, Scale::Pixels).unwrap());
        });
        println!(
            "apply u8 {side}x{side}x3 M={block:<2} one image a call {:.1} us",
            seconds * 1e4
        );
    }
    for (transforms, block) in [
        (&[Shuffle, Negative][..], 16),
        (&[Orthogonal], 4),
        (&[Orthogonal], 16),
    ] {
        let n = match transforms {
            [Orthogonal] => 4,
            _ => N,
        };
        let cipher = key(transforms, block, Layout::Nchw)
            .cipher(SIDE, SIDE)
            .unwrap();
        let values = n * 3 * SIDE * SIDE;
        let seconds = best(|| {
            let (from, to) = (&floats[..values], &mut keyed_floats[..values]);
            cipher.apply(from, to, Scale::Pixels).unwrap();
        });
        let rate = n as f64 / seconds;
        println!(
            "apply f32 {SIDE}x{SIDE}x3 M={block:<2} {:<16} {rate:.0} images/s",
            transforms[0].name()
        );
    }
}

/// GB/s of NumPy with an index for all values of an image, made before, in whichever of its ways is
/// the fastest; and with a mask that is applied then.
fn numpy_rates(block: u32) -> Option<[f64; 2]> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let python = match std::env::var_os("PYTHON") {
        Some(python) => PathBuf::from(python),
        None => PathBuf::from(root).join(".venv/bin/python"),
    };
    let script = format!(
        "
import time, numpy as np
n, m, side = {N}, {block}, {SIDE}
x = (np.arange(n * 3 * side * side) * 31).astype(np.uint8).reshape(n, -1)
alpha = np.random.RandomState(0).permutation(m * m * 3)
index = np.arange(3 * side * side).reshape(3, side // m, m, side // m, m).transpose(1, 3, 2, 4, 0).reshape(-1, m * m * 3)
flat = np.empty(3 * side * side, np.intp)
flat[index] = index[:, alpha]
def take(): return np.take(x, flat, axis=1)
def fancy(): return x[:, flat]
out = np.empty_like(x)
def rows():
    for i in range(n): np.take(x[i], flat, out=out[i], mode='clip')
mask = np.random.RandomState(1).randint(0, 2, 3 * side * side).astype(np.uint8) * 255
def best(work):
    least = 9
    for _ in range({ROUNDS}):
        start = time.perf_counter(); work(); least = min(least, time.perf_counter() - start)
    return least
way = min([take, fancy, rows], key=best)
def masked():
    y = way()
    y = out if y is None else y
    y ^= mask
print(x.nbytes / best(way) / 1e9, x.nbytes / best(masked) / 1e9)
"
    );
    let output = Command::new(python).arg("-c").arg(script).output().ok()?;
    let rates = String::from_utf8(output.stdout).ok()?;
    let (index, masked) = rates.trim().split_once(' ')?;
    Some([index.parse().ok()?, masked.parse().ok()?])
}
