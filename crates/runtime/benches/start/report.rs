//! Tables, and figures next to what is asked of them.

use onnxseal_testkit::figures::{self, Asked};

use crate::process::SESSIONS;
use crate::ways::{Form, Way, What, plains};

/// After figures of memory: what they are compared with.
const MAPPED: &str = " x plain with external data";

/// The most that the time to the first inference may be.
#[derive(Clone, Copy)]
pub struct Most {
    /// Against the plain model in one file, for one file.
    pub one_file: f64,
    /// Against the plain model with external data, for both forms. If absent, nothing is asked of
    /// memory either.
    pub mapped: Option<f64>,
}

/// The starts of a case: a row for each way, and what is asked of the protected ones.
pub fn starts(case: &str, most: Most, ways: &[Way]) {
    println!(
        "Medians of {}. In brackets: time against the plain model in the same form, memory in MiB against the plain model with external data. Memory includes the bare process, which has ONNX Runtime loaded.",
        ways[0].runs.len()
    );
    println!(
        "\n| form | way | first inference | bare process | peak | after creation | after the first run | anonymous peak |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for way in ways {
        let (plain, mapped) = plains(ways, way);
        let seconds = way.median("seconds");
        let mib = |key: &str| {
            let ratio = way.median(key) / mapped.median(key);
            format!("{:.0} ({ratio:.2})", way.median(key) / 1024.0)
        };
        println!(
            "| {} | {} | {seconds:.3} s ({:.2}) | {:.0} | {} | {} | {} | {} |",
            way.form.name(),
            way.name(),
            seconds / plain.median("seconds"),
            way.median("bare") / 1024.0,
            mib("peak"),
            mib("created"),
            mib("ran"),
            mib("anonymous")
        );
    }
    let protected = |way: &&Way| matches!(way.what, What::Protected(_));
    for way in ways.iter().filter(protected) {
        let (plain, mapped) = plains(ways, way);
        let what = format!("{case}, {}, {}", way.form.name(), way.name());
        let one_file = (way.form == Form::OneFile).then_some(most.one_file);
        let first = [(one_file, plain, " x plain"), (most.mapped, mapped, MAPPED)];
        for (most, plain, unit) in first {
            let Some(most) = most else { continue };
            let ratio = way.median("seconds") / plain.median("seconds");
            let what = format!("{what}: first inference");
            figures::print(&what, Asked::AtMost(most), ratio, unit);
        }
        if most.mapped.is_none() {
            continue;
        }
        for (key, name, limit) in [
            ("peak", "peak memory", 1.1),
            ("created", "memory after creation", 1.05),
            ("ran", "memory after the first run", 1.05),
        ] {
            let what = format!("{what}: {name}");
            let ratio = way.median(key) / mapped.median(key);
            figures::print(&what, Asked::AtMost(limit), ratio, MAPPED);
        }
    }
}

/// Prints the descriptors, threads and memory after many sessions, and the figures asked for them.
pub fn sessions(ways: &[Way]) {
    println!("\n| form | way | descriptors | threads | memory |\n|---|---|---|---|---|");
    for way in ways {
        let of = |what: &str| (way.median(what), way.median(&format!("more_{what}")));
        let ((descriptors, more_descriptors), (threads, more_threads), (memory, more_memory)) =
            (of("descriptors"), of("threads"), of("memory"));
        println!(
            "| {} | {} | {descriptors} {more_descriptors:+} | {threads} {more_threads:+} | {:.1} {:+.1} MiB |",
            way.form.name(),
            way.name(),
            memory / 1024.0,
            more_memory / 1024.0
        );
    }
    for way in ways.iter().filter(|way| way.what != What::Plain) {
        for (what, limit, unit, of_unit) in [
            ("descriptors", 0.0, " more", 1.0),
            ("threads", 0.0, " more", 1.0),
            ("memory", 0.5, " MiB more", 1024.0),
        ] {
            let more = way.median(&format!("more_{what}")) / of_unit;
            let what = format!(
                "{SESSIONS} sessions, {}, {}: {what}",
                way.form.name(),
                way.name()
            );
            figures::print(&what, Asked::AtMost(limit), more, unit);
        }
    }
}
