//! Memory that is filled when it is touched.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onnxseal_store::on_demand::{Fill, OnDemand, OnLoss, Unit, page_bytes, try_on_demand};

/// Blocks of four pages, the last a byte longer than one.
const N_BLOCKS: usize = 40;

#[derive(Clone)]
struct Numbers {
    /// How often each block was asked for.
    fills: Arc<Vec<AtomicUsize>>,
    /// Whether block 7 fails.
    fails: Arc<AtomicBool>,
    /// Whether block 7 panics.
    panics: Arc<AtomicBool>,
}

impl Numbers {
    fn new() -> Numbers {
        let fills = (0..N_BLOCKS).map(|_| AtomicUsize::new(0)).collect();
        Numbers {
            fills: Arc::new(fills),
            fails: Arc::default(),
            panics: Arc::default(),
        }
    }

    fn n(&self, block: usize) -> usize {
        self.fills[block].load(Ordering::SeqCst)
    }
}

impl Fill for Numbers {
    type Tools = ();
    type Error = String;

    fn fill(&self, index: usize, bytes: &mut [u8], (): &mut ()) -> Result<(), String> {
        self.fills[index].fetch_add(1, Ordering::SeqCst);
        bytes.fill(index as u8 + 1);
        assert!(
            index != 7 || !self.panics.load(Ordering::SeqCst),
            "on purpose"
        );
        match index == 7 && self.fails.load(Ordering::SeqCst) {
            true => Err("first".to_owned()),
            false => Ok(()),
        }
    }

    fn files(&self) -> Vec<&File> {
        Vec::new()
    }

    fn lost(&self, index: usize) -> String {
        format!("lost {index}")
    }

    fn refused(&self, source: std::io::Error) -> String {
        format!("refused: {source}")
    }
}

fn blocks() -> Vec<Range<usize>> {
    let len = 4 * page_bytes();
    let mut blocks: Vec<_> = (0..N_BLOCKS).map(|i| i * len..(i + 1) * len).collect();
    blocks[N_BLOCKS - 1].end -= 3 * page_bytes() - 1;
    blocks
}

/// Memory of the numbers, or `None` where the system lacks it.
fn memory(numbers: &Numbers) -> Option<OnDemand<Numbers>> {
    if let Err(error) = try_on_demand() {
        eprintln!("skipped: no userfaultfd: {error}");
        return None;
    }
    Some(OnDemand::new(numbers.clone(), blocks()).unwrap())
}

/// Units of four blocks.
fn units(is_kept: bool) -> Vec<Unit> {
    let firsts = (0..N_BLOCKS).step_by(4);
    let unit = |first| Unit {
        blocks: (first..first + 4).collect(),
        is_kept,
    };
    firsts.map(unit).collect()
}

fn assert_block(memory: &OnDemand<Numbers>, block: usize) {
    let range = blocks()[block].clone();
    let bytes = &memory.bytes()[range];
    assert!(bytes.iter().all(|byte| *byte == block as u8 + 1), "{block}");
}

#[test]
fn every_thread_reads_the_bytes_in_any_order() {
    for works in [false, true] {
        let numbers = Numbers::new();
        let Some(memory) = memory(&numbers) else {
            return;
        };
        if works {
            memory.begin(units(true));
        }
        thread::scope(|scope| {
            for seed in 0..8 {
                let memory = &memory;
                scope.spawn(move || {
                    for i in 0..400 {
                        assert_block(memory, (i * (2 * seed + 1) * 7 + seed) % N_BLOCKS);
                    }
                });
            }
        });
        memory.finish(OnLoss::Tell).unwrap();
        (0..N_BLOCKS).for_each(|block| assert_block(&memory, block));
        assert!((0..N_BLOCKS).all(|block| numbers.n(block) > 0));
    }
}

#[test]
fn what_the_owner_left_behind_is_given_back_and_filled_again() {
    let numbers = Numbers::new();
    let Some(memory) = memory(&numbers) else {
        return;
    };
    memory.begin(units(true));
    (0..N_BLOCKS).for_each(|block| assert_block(&memory, block));
    memory.finish(OnLoss::Tell).unwrap();
    let before = numbers.n(0);
    assert_block(&memory, 0);
    assert_eq!(numbers.n(0), before + 1);
    // Afterwards it stays.
    assert_block(&memory, 0);
    assert_eq!(numbers.n(0), before + 1);
}

#[test]
fn units_share_blocks_and_are_taken_in_another_order() {
    let numbers = Numbers::new();
    let Some(memory) = memory(&numbers) else {
        return;
    };
    let firsts: Vec<usize> = (0..N_BLOCKS - 4).step_by(4).collect();
    let unit = |first: &usize| Unit {
        blocks: (*first..first + 5).collect(),
        is_kept: true,
    };
    memory.begin(firsts.iter().map(unit).collect());
    let touch = |first: usize| (first..first + 5).for_each(|block| assert_block(&memory, block));
    firsts.iter().step_by(2).for_each(|first| touch(*first));
    // The next that was not touched is filled ahead: block 14 is in the middle of the fourth unit.
    let before = numbers.n(14);
    touch(firsts[1]);
    let begun = Instant::now();
    while numbers.n(14) == before {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::yield_now();
    }
    firsts
        .iter()
        .skip(1)
        .step_by(2)
        .for_each(|first| touch(*first));
    memory.finish(OnLoss::Tell).unwrap();
    (0..N_BLOCKS).for_each(|block| assert_block(&memory, block));
}

#[test]
fn blocks_that_nobody_touched_are_checked_and_kept_if_they_are_needed() {
    for is_kept in [true, false] {
        let numbers = Numbers::new();
        let Some(memory) = memory(&numbers) else {
            return;
        };
        memory.begin(units(is_kept));
        memory.finish(OnLoss::Tell).unwrap();
        assert!((0..N_BLOCKS).all(|block| numbers.n(block) == 1));
        assert_block(&memory, 3);
        assert_eq!(numbers.n(3), 1 + usize::from(!is_kept));
    }
}

#[test]
fn a_block_that_fails_reads_as_zeros_and_is_never_forgotten() {
    for is_touched in [true, false] {
        let numbers = Numbers::new();
        numbers.fails.store(true, Ordering::SeqCst);
        let Some(memory) = memory(&numbers) else {
            return;
        };
        memory.check().unwrap();
        memory.begin(units(true));
        if is_touched {
            let range = blocks()[7].clone();
            assert!(memory.bytes()[range].iter().all(|byte| *byte == 0));
        }
        assert_eq!(memory.finish(OnLoss::Tell).unwrap_err(), "first");
        numbers.fails.store(false, Ordering::SeqCst);
        assert_eq!(memory.check().unwrap_err(), "lost 7");
        assert_eq!(memory.fill_all().unwrap_err(), "lost 7");
    }
}

#[test]
fn all_blocks_are_filled_at_once_if_that_is_wanted() {
    let numbers = Numbers::new();
    let Some(memory) = memory(&numbers) else {
        return;
    };
    assert_block(&memory, 5);
    memory.fill_all().unwrap();
    (0..N_BLOCKS).for_each(|block| assert_block(&memory, block));
    assert!((0..N_BLOCKS).all(|block| numbers.n(block) == 1));
}

#[test]
fn no_thread_and_no_descriptor_outlives_the_memory() {
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    // Other tests of this process begin and end meanwhile: look for what grows.
    let found = || (count("/proc/self/task"), count("/proc/self/fd"));
    let (threads, files) = found();
    for _ in 0..200 {
        let Some(memory) = memory(&Numbers::new()) else {
            return;
        };
        memory.begin(units(true));
        assert_block(&memory, 9);
    }
    let (more_threads, more_files) = found();
    assert!(more_threads < threads + 100 && more_files < files + 100);
}

#[test]
fn what_others_refer_to_is_never_given_back() {
    let numbers = Numbers::new();
    let Some(memory) = memory(&numbers) else {
        return;
    };
    memory.fill_all().unwrap();
    memory.begin(units(true));
    (0..N_BLOCKS).for_each(|block| assert_block(&memory, block));
    memory.finish(OnLoss::Tell).unwrap();
    (0..N_BLOCKS).for_each(|block| assert_block(&memory, block));
    assert!((0..N_BLOCKS).all(|block| numbers.n(block) == 1));
}

#[test]
fn threads_may_begin_and_end_at_once() {
    let numbers = Numbers::new();
    let Some(memory) = memory(&numbers) else {
        return;
    };
    thread::scope(|scope| {
        for seed in 0..4 {
            let memory = &memory;
            scope.spawn(move || {
                for i in 0..100 {
                    memory.begin(units(true));
                    assert_block(memory, (i * 7 + seed * 11) % N_BLOCKS);
                    memory.finish(OnLoss::Tell).unwrap();
                }
            });
        }
    });
    assert!((0..N_BLOCKS).all(|block| numbers.n(block) > 0));
}

#[test]
fn a_block_that_is_asked_for_once_more_is_read_once_more() {
    let numbers = Numbers::new();
    let Some(memory) = memory(&numbers) else {
        return;
    };
    numbers.fails.store(true, Ordering::SeqCst);
    // Nobody touched it: it is no zeros, but missing.
    assert_eq!(memory.fill_all().unwrap_err(), "first");
    assert_eq!(memory.check().unwrap_err(), "first");
    numbers.fails.store(false, Ordering::SeqCst);
    assert_eq!(memory.check().unwrap_err(), "lost 7");
    assert_block(&memory, 7);
}

#[test]
fn a_panic_is_a_failure_of_the_memory() {
    let numbers = Numbers::new();
    numbers.panics.store(true, Ordering::SeqCst);
    let Some(memory) = memory(&numbers) else {
        return;
    };
    assert_eq!(memory.bytes()[blocks()[7].start], 0);
    let failed = memory.check().unwrap_err();
    assert_eq!(failed, "refused: a thread of onnxseal panicked");
    assert_block(&memory, 8);
}

#[test]
fn the_process_has_no_descriptor_of_the_memory() {
    // Other tests of this process begin and end meanwhile.
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = count();
    let made: Vec<_> = (0..50).map_while(|_| memory(&Numbers::new())).collect();
    made.iter().for_each(|memory| assert_block(memory, 3));
    assert!(count() < before + 40);
}

#[test]
fn blocks_may_end_anywhere() {
    let page = page_bytes();
    for len in [1, page - 1, page, page + 1, 2 * page - 1, 2 * page] {
        if memory(&Numbers::new()).is_none() {
            return;
        }
        let blocks = vec![0..len, 2 * page..2 * page + len];
        let memory = OnDemand::new(Numbers::new(), blocks).unwrap();
        memory.begin(units(true));
        assert_eq!(memory.bytes()[2 * page + len - 1], 2, "{len}");
        assert_eq!(memory.bytes()[len - 1], 1, "{len}");
        memory.finish(OnLoss::Tell).unwrap();
        memory.fill_all().unwrap();
        assert_eq!(memory.bytes()[len / 2], 1);
    }
}
