//! What tiers cost: against the same model with the same targets in one tier, and a core's speed in
//! each mode.
//!
//! `cargo bench -p onnxseal-core --bench tiers [-- FOLDER [MIB]]`: works in FOLDER (a temporary one
//! by default), on a model of MIB MiB (256). What docs/PERFORMANCE.md says of tiers comes from
//! here.

#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, hint};

use onnxseal_core::{
    Access, Edition, Flush, Identities, OutputOptions, Policy, ProtectOptions, Publication,
    Recipients, Silent, TierRecipients, generate_identity, open, protect,
};
use onnxseal_crypto::{ChunkId, DataKey, Direction, Scratch};
use onnxseal_testkit::build::{GraphBuilder, node, weights};

/// How often each thing is done, in turn; the medians are compared.
const ROUNDS: usize = 11;

/// Rows and columns of each weight: 16 MiB.
const SIDE: i64 = 2048;

const CHUNK: usize = 1 << 20;

const TIERS: &str = "\
[[tier]]\nname = \"trial\"\nshare = 0.4\n
[[tier]]\nname = \"standard\"\nshare = 0.7\n
[[tier]]\nname = \"full\"\n";

fn main() {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let parent = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let mib: i64 = args.get(1).map_or(256, |mib| mib.parse().unwrap());
    speeds();
    let folder = tempfile::tempdir_in(parent).unwrap();
    let model = folder.path().join("model.onnx");
    fs::write(&model, model_of(mib)).unwrap();
    for preset in ["balanced", "full"] {
        for mode in ["bytes", "mask", "shuffle"] {
            compare(&folder.path().join("out.onnx"), &model, preset, mode);
        }
    }
}

fn model_of(mib: i64) -> Vec<u8> {
    let n = mib / ((SIDE * SIDE * 4) >> 20);
    let mut graph = GraphBuilder::new("chain").input("x0", &[1, SIDE]);
    for i in 0..n {
        let (x, w, y) = (format!("x{i}"), format!("w{i}"), format!("x{}", i + 1));
        graph = graph
            .initializer(weights(&w, &[SIDE, SIDE], i as u32))
            .node(node("MatMul", &[&x, &w], &[&y]));
    }
    graph.output(&format!("x{n}"), &[1, SIDE]).encode()
}

/// Protecting and opening with three tiers against one.
fn compare(sealed: &PathBuf, model: &PathBuf, preset: &str, mode: &str) {
    let pairs: Vec<_> = (0..3).map(|_| generate_identity()).collect();
    let to = |tier: usize| Recipients::parse(&[pairs[tier].recipient()]).unwrap();
    let names = ["trial", "standard", "full"];
    let tiers: TierRecipients = (0..3)
        .map(|tier| (Some(names[tier].to_owned()), to(tier)))
        .collect();
    let one = to(2);
    let keys: Vec<Identities> = pairs.into_iter().map(Identities::from).collect();
    let options = |text: &str| {
        let policy = Policy::parse(&format!("preset = \"{preset}\"\n{text}")).unwrap();
        ProtectOptions::new(policy)
    };
    let mut over = OutputOptions::default();
    (over.flush, over.replace) = (Flush::Later, true);
    let without = options("");
    let with = options(&format!("{TIERS}[mode]\ndefault = \"{mode}\"\n"));
    let access = |tier: usize, edition| Access {
        identities: &keys[tier],
        signed_by: None,
        edition,
        licence: None,
    };
    let mut times = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        times[0].push(time(|| {
            protect(
                model,
                Publication::new(sealed, over),
                &one,
                &without,
                &Silent,
            )
            .unwrap()
        }));
        times[1].push(time(|| {
            open(sealed, access(2, Edition::Whole), &Silent).unwrap()
        }));
        times[2].push(time(|| {
            protect(
                model,
                Publication::new(sealed, over),
                &tiers,
                &with,
                &Silent,
            )
            .unwrap()
        }));
        times[3].push(time(|| {
            open(sealed, access(2, Edition::Whole), &Silent).unwrap()
        }));
        times[4].push(time(|| {
            open(sealed, access(0, Edition::Any), &Silent).unwrap()
        }));
    }
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let best = times.each_ref().map(|times| times.iter().copied().min());
    let best = |a: usize, b: usize| ratio(best[a].unwrap(), best[b].unwrap());
    let best = (best(3, 1), best(2, 0));
    let [protect_one, open_one, protect_tiers, open_tiers, open_least] = times.map(median);
    println!(
        "{preset:<8} {mode:<7} open the highest of 3 tiers {open_tiers:.3?} = {:.2} x one tier ({open_one:.3?}), the least {:.2} x   protect {protect_tiers:.3?} = {:.2} x ({protect_one:.3?})   at best {:.2} x and {:.2} x",
        ratio(open_tiers, open_one),
        ratio(open_least, open_one),
        ratio(protect_tiers, protect_one),
        best.0,
        best.1,
    );
}

/// GB/s of one core, of chunks of 1 MiB, whole and in pieces.
fn speeds() {
    let key = DataKey::generate().unwrap().seal_keys(b"{}", 2).unwrap();
    let key = key.upper.first().unwrap();
    let mut scratch = Scratch::new();
    let mut bytes = vec![1; CHUNK];
    let at = ChunkId { file: 0, chunk: 0 };
    let mut rate = |what: &str, targets: &[Range<usize>], run: &mut dyn FnMut(&mut [u8])| {
        let n: usize = targets.iter().map(Range::len).sum();
        run(&mut bytes);
        let times = (0..20 * ROUNDS).map(|_| time(|| run(&mut bytes)));
        let times: Vec<Duration> = times.collect();
        let rate = |time: Duration| n as f64 / time.as_secs_f64() / 1e9;
        let best = times.iter().copied().min().unwrap_or_default();
        println!(
            "{what:<44} {:.2} GB/s a core, at best {:.2}",
            rate(median(times)),
            rate(best)
        );
    };
    let whole = vec![Range {
        start: 0,
        end: CHUNK,
    }];
    let pieces: Vec<Range<usize>> = (0..CHUNK).step_by(512).map(|at| at..at + 256).collect();
    for (how, targets) in [
        ("whole chunk", &whole[..]),
        ("256 of every 512 bytes", &pieces),
    ] {
        let mask = u64::from_le_bytes([0xFF, 0xFF, 0x7F, 0x80, 0xFF, 0xFF, 0x7F, 0x80]);
        for (mode, mask) in [("bytes", u64::MAX), ("mask", mask)] {
            rate(&format!("{mode}, {how}"), targets, &mut |bytes| {
                let runs = targets.iter().map(|run| (run.clone(), mask.to_le_bytes()));
                key.apply_stream(at, bytes, runs, &mut scratch).unwrap();
            });
        }
        for width in [1, 2, 4] {
            for direction in [Direction::Seal, Direction::Open] {
                let what = format!("shuffle {width}, {direction:?}, {how}");
                rate(&what, targets, &mut |bytes| {
                    let of = (targets, width);
                    key.shuffle((0, 0), bytes, of, direction, &mut scratch)
                        .unwrap();
                });
            }
        }
    }
    rate("tag", &whole, &mut |bytes| {
        key.tag(at, bytes).unwrap();
    });
}

fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let made = hint::black_box(run());
    let taken = begun.elapsed();
    drop(made);
    taken
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
