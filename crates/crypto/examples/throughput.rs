//! Prints GB/s on one core for 1 MiB chunks: `cargo run --release -p onnxseal-crypto --example
//! throughput`, with and without `--features aws-lc`.

use std::ops::Range;
use std::time::{Duration, Instant};

use onnxseal_crypto::{ChunkId, DataKey, Error, Scratch};

const CHUNK: usize = 1 << 20;

fn main() -> Result<(), Error> {
    let backend = if cfg!(feature = "aws-lc") {
        "aws-lc"
    } else {
        "RustCrypto"
    };
    let key = DataKey::generate()?;
    let seal = key.seal_keys(b"{}", 1)?;
    let open = key.open_keys((1, 1), b"{}", &[], &seal.macs(&[]))?;
    let at = ChunkId { file: 0, chunk: 0 };
    let mut scratch = Scratch::new();

    println!("{backend}, GB/s: {:>16} {:>7}", "seal", "open");
    for (name, targets) in layouts() {
        let mut bytes = vec![1; CHUNK];
        let tag = seal.seal_chunk(at, &mut bytes, &targets, &mut scratch)?;
        let sealed = bytes.clone();
        // Opening changes the bytes: the targets are put back in time that is not measured.
        let opening = rate_after(
            &mut bytes,
            |bytes| bytes.copy_from_slice(&sealed),
            |bytes| open.open_chunk(at, bytes, &targets, &tag, &mut scratch),
        )?;
        let sealing = rate(|| {
            seal.seal_chunk(at, &mut bytes, &targets, &mut scratch)
                .map(|_| ())
        })?;
        println!("  {name:<26} {sealing:>6.2} {opening:>7.2}");
    }
    Ok(())
}

fn layouts() -> [(&'static str, Vec<Range<usize>>); 5] {
    let every = |step, len| {
        (0..CHUNK - len)
            .step_by(step)
            .map(|at| at..at + len)
            .collect()
    };
    [
        ("no targets", vec![]),
        ("one, the whole chunk", std::iter::once(0..CHUNK).collect()),
        ("64 KiB of every 640 KiB", every(640 << 10, 64 << 10)),
        ("64 bytes of every 640", every(640, 64)),
        ("4 bytes of every 5", every(5, 4)),
    ]
}

fn rate(mut step: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    rate_after(&mut (), |()| (), |()| step())
}

fn rate_after<T: ?Sized>(
    state: &mut T,
    mut prepare: impl FnMut(&mut T),
    mut step: impl FnMut(&mut T) -> Result<(), Error>,
) -> Result<f64, Error> {
    let (mut spent, mut chunks) = (Duration::ZERO, 0);
    while spent < Duration::from_millis(300) {
        prepare(state);
        let start = Instant::now();
        step(state)?;
        spent += start.elapsed();
        chunks += 1;
    }
    Ok(f64::from(chunks) * CHUNK as f64 / spent.as_secs_f64() / 1e9)
}
