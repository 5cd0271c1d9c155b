//! How fast labels are protected, tables decrypted and answers decoded: what is asked, what is
//! measured.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use onnxseal_labels::head::Head;
use onnxseal_labels::{Authority, Decoder, Plan, protect};
use onnxseal_onnx::{Limits, locate};
use onnxseal_rewrite::Source;
use onnxseal_testkit::build::*;

/// How often each thing is done; the median counts.
const ROUNDS: usize = 5;

const CODEWORDS: u32 = 8;

fn main() {
    let authority = {
        let mut authority = Authority::generate(1, None).unwrap();
        authority.add_user("acme").unwrap();
        authority
    };
    let key = authority.user_key("acme").unwrap();
    for (classes, features) in [(10, 512), (100, 512), (1000, 2048)] {
        let (seconds, plan) = with_head(classes, features, |head, source| {
            let began = Instant::now();
            let plan = protect(head, &authority, CODEWORDS, &[]).unwrap();
            black_box(
                head.edits(source, &plan.stored, &plan.table.to_text())
                    .unwrap(),
            );
            (began.elapsed().as_secs_f64(), plan)
        });
        let asked = if classes == 1000 {
            ", asked with all of a file of 100 MB: 4 s"
        } else {
            ""
        };
        println!("protect, K = {classes}, N = 8, D = {features}: {seconds:.3} s{asked}");
        open_and_decode(&plan, &key, classes);
    }
}

fn open_and_decode(plan: &Plan, key: &onnxseal_labels::UserKey, classes: usize) {
    let decoder = Decoder::new(&plan.table, key).unwrap();
    let opening = median(|| {
        black_box(Decoder::new(&plan.table, key).unwrap());
    });
    let asked = match (classes, opening <= 1.0) {
        (1000, true) => ", asked: 1 s, met",
        (1000, false) => ", asked: 1 s, NOT met",
        _ => "",
    };
    println!("  table, once a session: {:.1} ms{asked}", 1e3 * opening);
    let n_rows = plan.table.n_rows() as usize;
    for n in [1, 64] {
        let answers = floats(n * n_rows, 3);
        let seconds = median(|| {
            for _ in 0..100 {
                black_box(decoder.decode(black_box(&answers), &[n, n_rows]).unwrap());
            }
        });
        println!(
            "  decode a batch of {n}: {:.1} us a sample",
            1e6 * seconds / 100.0 / n as f64
        );
    }
}

fn with_head<T>(classes: usize, features: usize, call: impl FnOnce(&Head, &Source<'_>) -> T) -> T {
    let (k, d) = (classes as i64, features as i64);
    let bytes = GraphBuilder::new("g")
        .input("x", &[-1, d])
        .initializer(weights("w", &[k, d], 1))
        .initializer(weights("b", &[k], 2))
        .node(node_with(
            "Gemm",
            &["x", "w", "b"],
            &["z"],
            vec![int_attribute("transB", 1)],
        ))
        .output("z", &[-1, k])
        .encode();
    let model = locate(&bytes, &Limits::default()).unwrap();
    let external = |_: &str, _| panic!("there is no external data");
    let source = Source {
        bytes: &bytes,
        model: &model,
        external: &external,
    };
    call(&Head::find(&source, None).unwrap(), &source)
}

fn median(mut call: impl FnMut()) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            call();
            began.elapsed().as_secs_f64()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}
