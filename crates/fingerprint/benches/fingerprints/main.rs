//! Whose copy a leak was, by attack: the z of the guilty and the highest of the innocents, and what
//! is asked.
//!
//!     cargo bench -p onnxseal-fingerprint --bench fingerprints -- [MODEL]... [only=WORDS]
//!
//! The models are those of the fixtures, and further ones that are named. A mark's z grows with the
//! square root of the number of marked weights, so what is asked does too. `only=int8` runs the
//! attacks whose names contain that. Nothing is asserted.
#![allow(clippy::unwrap_used, missing_docs)]

mod attacks;
#[path = "../../tests/it/attacks.rs"]
#[allow(dead_code)]
mod basic;
mod model;

use std::path::{Path, PathBuf};
use std::time::Instant;

use model::{Matrix, Original, changed};
use onnxseal_onnx::proto::ModelProto;
use prost::Message as _;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/");

const MODELS: [&str; 6] = [
    "digits_cnn",
    "digits_cnn_fp16",
    "digits_embedding",
    "digits_lstm",
    "digits_tensorflow",
    "digits_finetuned",
];

/// The model of the fixtures that `digits_finetuned` was made of.
const BASE: &str = "digits_base";

const INNOCENTS: usize = 200;

/// Innocents of a model of some thousand weights.
const MANY_INNOCENTS: usize = 100_000;

type OfMatrix = fn(&mut Matrix);
type OfModel = fn(&Original, &ModelProto) -> Option<ModelProto>;

enum Attack {
    /// Each tensor by itself.
    Each(OfMatrix),
    /// All of the copy; `None` where the attacker lacks something.
    Whole(OfModel),
    /// So many customers combine their copies, and change each tensor of what comes of it.
    Together(usize, &'static str, OfMatrix),
}
use Attack::{Each, Together, Whole};

/// An attack, and the z that is asked after it, as a share of the square root of the number of
/// marked weights. It is 0 where none is asked: the mark is gone, or the attack is only looked at.
struct Line(&'static str, Attack, f64);

const LINES: &[Line] = &[
    Line("none", Each(|_| {}), 0.85),
    Line(
        "rows permuted and scaled",
        Each(|m| basic::scatter_rows(&mut m.values, m.rows)),
        0.75,
    ),
    Line("rows and columns permuted and scaled", Each(scattered), 0.0),
    Line("transposed", Each(transposed), 0.85),
    Line(
        "other names and order",
        Whole(|_, m| Some(model::renamed(m))),
        0.85,
    ),
    Line(
        "half of the layers missing",
        Whole(|_, m| Some(model::halved(m))),
        0.3,
    ),
    Line("float16", Whole(|_, m| Some(model::as_float16(m))), 0.85),
    Line("bfloat16", Whole(|_, m| Some(model::as_bfloat16(m))), 0.8),
    Line(
        "noise of 3 %",
        Each(|m| basic::noise(&mut m.values, 0.03)),
        0.09,
    ),
    Line(
        "noise of 10 %",
        Each(|m| basic::noise(&mut m.values, 0.1)),
        0.028,
    ),
    Line("int8 by tensor", Each(|m| round(m, 127.0, false)), 0.12),
    Line(
        "int8 by tensor, DequantizeLinear",
        Whole(|_, m| Some(model::as_int8(m))),
        0.12,
    ),
    Line("int4 by row", Each(|m| round(m, 7.0, true)), 0.016),
    Line(
        "int4 by row, errors fed back",
        Each(attacks::with_feedback),
        0.015,
    ),
    Line(
        "16 values by k-means",
        Each(|m| attacks::codebook(m, 16)),
        0.02,
    ),
    Line("float8", Each(attacks::float8), 0.08),
    Line(
        "multiples of three marks",
        Each(|m| attacks::snapped(m, 0.003)),
        0.7,
    ),
    Line(
        "50 % zeros",
        Each(|m| basic::prune(&mut m.values, 0.5)),
        0.6,
    ),
    Line(
        "80 % zeros",
        Each(|m| basic::prune(&mut m.values, 0.8)),
        0.38,
    ),
    Line("50 % zeros, int8", Each(pruned_and_rounded), 0.07),
    Line(
        "half of the rank",
        Each(|m| basic::low_rank(&mut m.values, m.rows, 0.5)),
        0.11,
    ),
    Line(
        "a fifth of the rank",
        Each(|m| basic::low_rank(&mut m.values, m.rows, 0.2)),
        0.0,
    ),
    Line("half of the rank, int8", Each(reduced_and_rounded), 0.015),
    Line(
        "a LoRA of rank 8 merged",
        Each(|m| attacks::low_rank_added(m, 8)),
        0.03,
    ),
    Line("columns rotated", Each(rotated), 0.0),
    Line("each fourth row missing", Each(attacks::fewer_rows), 0.0),
    Line("rows doubled", Each(attacks::doubled_rows), 0.0),
    Line(
        "another secret's mark on it",
        Whole(|_, m| Some(model::marked_by_another(m))),
        0.6,
    ),
    Line("mean with the base", Whole(merged), 0.0),
    Line("a fifth of what differs from the base", Whole(trimmed), 0.0),
    Line("rank 4 of what differs from the base", Whole(reduced), 0.0),
    Line("mean of 2", Together(2, "mean", |_| {}), 0.6),
    Line("mean of 5", Together(5, "mean", |_| {}), 0.38),
    Line("mean of 10", Together(10, "mean", |_| {}), 0.27),
    Line("mean of 20", Together(20, "mean", |_| {}), 0.18),
    Line(
        "mean of 10, int8 by tensor",
        Together(10, "mean", |m| round(m, 127.0, false)),
        0.011,
    ),
    Line("median of 10", Together(10, "median", |_| {}), 0.22),
    Line("mid-range of 10", Together(10, "mid-range", |_| {}), 0.19),
    Line("picked by chance of 2", Together(2, "chance", |_| {}), 0.42),
    Line("picked by chance of 5", Together(5, "chance", |_| {}), 0.15),
    Line(
        "picked by chance of 10",
        Together(10, "chance", |_| {}),
        0.07,
    ),
    Line(
        "picked by chance of 20",
        Together(20, "chance", |_| {}),
        0.0,
    ),
];

fn main() {
    let (options, paths): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .partition(|argument| argument.starts_with("only="));
    let only = options
        .first()
        .map_or("", |option| &option["only=".len()..]);
    let fixtures = MODELS.iter().map(|name| format!("{FIXTURES}{name}.onnx"));
    let mut missed = 0;
    for path in fixtures.chain(paths).map(PathBuf::from) {
        missed += table(&Original::read(&path), only);
    }
    if "false accusations".contains(only) {
        missed += false_accusations();
    }
    println!("lines that missed what is asked: {missed}");
}

/// Prints the lines of one model. Returns how many miss what is asked.
fn table(original: &Original, only: &str) -> usize {
    let n = original.n_marked;
    println!("\n{}: {n} marked weights", original.name);
    println!(
        "{:38} {:>7} {:>7} {:>6}  highest of {INNOCENTS} innocents",
        "attack", "z", "asked", ""
    );
    let mut missed = 0;
    for Line(name, attack, asked) in LINES.iter().filter(|line| line.0.contains(only)) {
        let Some((guilty, leak)) = leaked(original, attack) else {
            println!("{name:38}: there is no base");
            continue;
        };
        let innocents = (0..INNOCENTS).map(|i| format!("innocent {i}"));
        let customers: Vec<String> = guilty.iter().cloned().chain(innocents).collect();
        let began = Instant::now();
        let traced = original.trace(&leak, &customers);
        let seconds = began.elapsed().as_secs_f64();
        let (mut least, mut innocent) = (f64::INFINITY, f64::NEG_INFINITY);
        for suspect in &traced.suspects {
            match guilty.contains(&suspect.customer) {
                true => least = least.min(suspect.z),
                false => innocent = innocent.max(suspect.z),
            }
        }
        let asked = asked * (n as f64).sqrt();
        let (asked, met) = match asked {
            0.0 => ("-".to_owned(), ""),
            asked if least >= asked => (format!("{asked:.1}"), "met"),
            asked => (format!("{asked:.1}"), "MISSED"),
        };
        missed += usize::from(met == "MISSED");
        let accused = if innocent >= traced.threshold {
            ": ACCUSED"
        } else {
            ""
        };
        let share = 100 * traced.elements_found / traced.elements;
        println!(
            "{name:38} {least:7.1} {asked:>7} {met:6}  {innocent:.1}{accused}; {share} % found, {seconds:.1} s"
        );
    }
    missed
}

/// Returns the guilty, and what they leak.
fn leaked(original: &Original, attack: &Attack) -> Option<(Vec<String>, ModelProto)> {
    let guilty = |n| {
        (0..n)
            .map(|i| format!("guilty {i}"))
            .collect::<Vec<String>>()
    };
    match attack {
        Each(attack) => {
            let copy = original.copy("guilty 0");
            Some((guilty(1), changed(&copy, |_, matrix| attack(matrix))))
        }
        Whole(attack) => {
            let leak = attack(original, &original.copy("guilty 0"))?;
            Some((guilty(1), leak))
        }
        Together(n, by, then) => {
            let names = guilty(*n);
            let mut copies: Vec<_> = names.iter().map(|name| original.copy(name)).collect();
            let first = copies[0].clone();
            let weights: Vec<Vec<Matrix>> = copies.iter_mut().map(matrices).collect();
            let leak = changed(&first, |i, matrix| {
                let of_all: Vec<_> = weights.iter().map(|of| of[i].values.clone()).collect();
                matrix.values = basic::collude(&of_all, by);
                then(matrix);
            });
            Some((names, leak))
        }
    }
}

fn matrices(model: &mut ModelProto) -> Vec<Matrix> {
    model::weights(model)
        .into_iter()
        .map(|(_, matrix)| matrix)
        .collect()
}

/// Traces changed copies of no customer's among very many customers.
fn false_accusations() -> usize {
    let original = Original::read(Path::new(&format!("{FIXTURES}digits_tensorflow.onnx")));
    let customers: Vec<String> = (0..MANY_INNOCENTS)
        .map(|i| format!("innocent {i}"))
        .collect();
    println!(
        "\n{MANY_INNOCENTS} innocents, {} marked weights",
        original.n_marked
    );
    let mut missed = 0;
    let noise: OfMatrix = |m| basic::noise(&mut m.values, 0.01);
    for (name, attack) in [
        ("noise of 1 %", noise),
        ("half of the rank, int8", reduced_and_rounded),
    ] {
        let leak = changed(&original.copy("not a customer"), |_, matrix| attack(matrix));
        let began = Instant::now();
        let traced = original.trace(&leak, &customers);
        let seconds = began.elapsed().as_secs_f64();
        let all: Vec<f64> = traced.suspects.iter().map(|suspect| suspect.z).collect();
        let n = all.len() as f64;
        let mean = all.iter().sum::<f64>() / n;
        let deviation = (all.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n).sqrt();
        let above = |least: f64| all.iter().filter(|z| **z >= least).count();
        let accused = traced.accused().count();
        println!("{name}, {seconds:.1} s: mean {mean:.3} (0), deviation {deviation:.3} (1)");
        println!(
            "  z from 3 on {} (135 by chance), from 4 on {} (3)",
            above(3.0),
            above(4.0)
        );
        let met = if accused == 0 { "met" } else { "MISSED" };
        println!(
            "  highest z {:.1}, accused {accused}, asked 0: {met}",
            all[0]
        );
        missed += usize::from(accused > 0);
    }
    missed
}

fn scattered(matrix: &mut Matrix) {
    basic::scatter_rows(&mut matrix.values, matrix.rows);
    basic::scatter_columns(&mut matrix.values, matrix.rows);
}

fn transposed(matrix: &mut Matrix) {
    let columns = matrix.columns();
    basic::transpose(&mut matrix.values, matrix.rows);
    matrix.rows = columns;
}

fn round(matrix: &mut Matrix, steps: f32, by_row: bool) {
    let group = if by_row {
        matrix.columns()
    } else {
        matrix.values.len()
    };
    basic::round(&mut matrix.values, steps, group);
}

fn pruned_and_rounded(matrix: &mut Matrix) {
    basic::prune(&mut matrix.values, 0.5);
    round(matrix, 127.0, false);
}

fn reduced_and_rounded(matrix: &mut Matrix) {
    basic::low_rank(&mut matrix.values, matrix.rows, 0.5);
    round(matrix, 127.0, false);
}

/// All columns are mixed by one random orthogonal matrix.
fn rotated(matrix: &mut Matrix) {
    let columns = matrix.columns();
    if columns <= 1024 {
        basic::rotate(&mut matrix.values, matrix.rows, columns);
    }
}

/// The mean with the base; noise of the weights' size stands for a base that is not at hand.
fn merged(original: &Original, copy: &ModelProto) -> Option<ModelProto> {
    let base = base(original);
    if base.is_none() {
        println!("  (there is no base: noise of the weights' size takes its place)");
    }
    let of = |i: usize| base.as_ref().map(|base| &base[i]);
    Some(changed(copy, |i, matrix| attacks::merged(matrix, of(i))))
}

/// The base with the largest fifth of what differs from it.
fn trimmed(original: &Original, copy: &ModelProto) -> Option<ModelProto> {
    on_base(original, copy, |differs| {
        basic::prune(&mut differs.values, 0.8)
    })
}

/// The base with a LoRA made of what differs from it.
fn reduced(original: &Original, copy: &ModelProto) -> Option<ModelProto> {
    on_base(original, copy, |differs| {
        let side = differs.rows.min(differs.columns());
        basic::low_rank(&mut differs.values, differs.rows, 4.0 / side as f64);
    })
}

fn on_base(original: &Original, copy: &ModelProto, change: OfMatrix) -> Option<ModelProto> {
    let base = base(original)?;
    Some(changed(copy, |i, matrix| {
        let of_base = base[i].values.iter();
        let pairs = matrix.values.iter_mut().zip(of_base.clone());
        pairs.for_each(|(value, of_base)| *value -= of_base);
        change(matrix);
        let pairs = matrix.values.iter_mut().zip(of_base);
        pairs.for_each(|(value, of_base)| *value += of_base);
    }))
}

fn base(original: &Original) -> Option<Vec<Matrix>> {
    (original.name == "digits_finetuned").then(|| {
        let bytes = std::fs::read(format!("{FIXTURES}{BASE}.onnx")).unwrap();
        matrices(&mut ModelProto::decode(&*bytes).unwrap())
    })
}
