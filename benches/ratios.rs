//! Ratios of one run: what protecting and opening cost against copying and reading the same bytes.
//!
//! `cargo bench --bench ratios [-- FOLDER [MIB [PART...]]]`: works in FOLDER (a temporary one by default;
//! name one on btrfs or XFS to see `--in-place` with reflinks), on a model of MIB MiB (576); all parts
//! (`protect`, `rotate`, `batch`, ...) or those named. Lines that begin with `figure` say what is asked, and whether it is
//! met. `PYTHON` names a Python with cryptotensors. What
//! docs/PERFORMANCE.md says comes from here.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    ONNXSEAL, keep_warm, median, peak_anonymous, plain_copy, ratio, run, succeed, time, time_of,
    write_chain, write_layers,
};
use onnxseal_core::{Checks, Policy, Preset, Silent};
use onnxseal_testkit::figures::{self, Asked};

/// How often each thing is done; the medians are compared.
const ROUNDS: usize = 7;

/// The first argument of a run that only opens a model, and prints what it took.
const OPEN: &str = "open-and-tell";

/// How AWS-LC is told by `OPENSSL_ia32cap` that a processor lacks AES and VAES.
const NO_AES: &str = "~0x200000000000000:~0x20000000000";

/// And PCLMULQDQ and VPCLMULQDQ.
const NEITHER: &str = "~0x200000200000000:~0x60000000000";

fn main() {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [OPEN, model, identity] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return open_and_tell(Path::new(model), Path::new(identity));
    }
    let parent = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let mib = args.get(1).map_or(576, |mib| mib.parse().unwrap());
    let folder = tempfile::tempdir_in(parent).unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = at("model.onnx");
    write_model(&model, mib);
    let identity = at("id.txt");
    let recipient = run(&[ONNXSEAL, "keygen", "-o", identity.to_str().unwrap()]);
    let bench = Bench {
        folder: folder.path().to_owned(),
        model,
        identity,
        recipient,
    };
    keep_warm((2 * mib as usize) << 20);
    println!(
        "model: {mib} MiB in {}; medians of {ROUNDS}",
        folder.path().display()
    );

    let parts: [(&str, &dyn Fn()); 9] = [
        ("protect", &|| bench.protect()),
        ("in-place", &|| bench.protect_in_place()),
        ("rotate", &|| bench.rekey_and_rotate()),
        ("open", &|| bench.open()),
        ("instructions", &|| bench.instructions()),
        ("memory", &|| bench.memory()),
        ("batch", &|| bench.batch()),
        ("peers", &|| bench.peers()),
        ("plan", &plan),
    ];
    let wanted = args.get(2..).unwrap_or_default();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

struct Bench {
    folder: PathBuf,
    model: PathBuf,
    identity: PathBuf,
    recipient: String,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn protect_command(&self, preset: Preset, to: &[&str]) -> Command {
        self.protect_by(&["--preset", preset.name()], to)
    }

    fn protect_by(&self, policy: &[&str], to: &[&str]) -> Command {
        let mut command = Command::new(ONNXSEAL);
        command.args(["-q", "protect", "-r", &self.recipient]);
        command.args(policy).args(to).stdout(Stdio::null());
        command
    }

    fn protect(&self) {
        println!("\nprotect to a new file: against cp, and with --sync against cp and fsync");
        let (model, copy, out) = (&self.model, self.path("copy"), self.path("out.onnx"));
        let spread = self.path("spread.toml");
        fs::write(&spread, "preset = \"balanced\"\nstrategy = \"spread\"\n").unwrap();
        let spread = ["--policy", spread.to_str().unwrap()];
        let presets = Preset::ALL.map(|preset| (preset.name(), ["--preset", preset.name()]));
        for (name, policy) in presets.into_iter().chain([("spread", spread)]) {
            let mut times = [const { Vec::new() }; 4];
            for _ in 0..ROUNDS {
                times[0].push(time(|| plain_copy(model, &copy)));
                fs::remove_file(&copy).unwrap();
                times[1].push(time(|| {
                    plain_copy(model, &copy);
                    File::open(&copy).unwrap().sync_all().unwrap();
                }));
                fs::remove_file(&copy).unwrap();
                let to = [model.to_str().unwrap(), "-o", out.to_str().unwrap()];
                let synced = [&to[..], &["--sync"]].concat();
                times[2].push(time(|| succeed(&mut self.protect_by(&policy, &to))));
                fs::remove_file(&out).unwrap();
                times[3].push(time(|| succeed(&mut self.protect_by(&policy, &synced))));
                fs::remove_file(&out).unwrap();
            }
            let [cp, cp_sync, protect, synced] = times.map(median);
            println!(
                "  {name:<9} {protect:.3?} = {:.2} x cp ({cp:.3?})   --sync {synced:.3?} = {:.2} x cp + fsync ({cp_sync:.3?})   {:.2} x cp",
                ratio(protect, cp),
                ratio(synced, cp_sync),
                ratio(synced, cp)
            );
            // The others read all weights once more, to choose.
            let most = match name {
                "full" | "spread" => 1.1,
                _ => 1.25,
            };
            let what = format!("protect, {name}");
            figures::print(&what, Asked::AtMost(most), ratio(protect, cp), " x cp");
        }
    }

    fn protect_in_place(&self) {
        let (a, b) = (self.path("a"), self.path("b"));
        fs::write(&a, vec![1; 1 << 16]).unwrap();
        let reflink = Command::new("cp")
            .arg("--reflink=always")
            .args([&a, &b])
            .stderr(Stdio::null())
            .status();
        if !reflink.is_ok_and(|status| status.success()) {
            println!(
                "\nprotect in place: skipped, no reflinks in {}",
                self.folder.display()
            );
            return;
        }
        println!(
            "\nprotect in place on a file system with reflinks, against cp --reflink=never, and that and fsync"
        );
        let (copy, target) = (self.path("copy"), self.path("target.onnx"));
        for preset in Preset::ALL {
            let mut times = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                times[0].push(time(|| plain_copy(&self.model, &copy)));
                fs::remove_file(&copy).unwrap();
                times[1].push(time(|| {
                    plain_copy(&self.model, &target);
                    File::open(&target).unwrap().sync_all().unwrap();
                }));
                let to = [target.to_str().unwrap(), "--in-place"];
                times[2].push(time(|| succeed(&mut self.protect_command(preset, &to))));
                fs::remove_file(&target).unwrap();
            }
            let [cp, cp_sync, protect] = times.map(median);
            println!(
                "  {:<9} {protect:.3?} = {:.2} x cp ({cp:.3?})   {:.2} x cp + fsync ({cp_sync:.3?})",
                preset.name(),
                ratio(protect, cp),
                ratio(protect, cp_sync)
            );
        }
    }

    fn rekey_and_rotate(&self) {
        println!(
            "\nrekey in place, beyond process start (of --version); rotate against protect, both with and without --sync, and against cp; verify -i against cp"
        );
        let (sealed, out) = (self.path("sealed.onnx"), self.path("out.onnx"));
        let copy = self.path("copy");
        let rekey = |more: &[&str]| {
            let identity = self.identity.to_str().unwrap();
            let mut command = Command::new(ONNXSEAL);
            let sealed = sealed.to_str().unwrap();
            command.args(["-q", "rekey", sealed, "-i", identity, "-r", &self.recipient]);
            command.args(more);
            time(|| succeed(&mut command))
        };
        for preset in Preset::ALL {
            let mut times = [const { Vec::new() }; 9];
            for _ in 0..ROUNDS {
                let model = self.model.to_str().unwrap();
                for (i, more) in [&[][..], &["--sync"]].into_iter().enumerate() {
                    let _ = fs::remove_file(&sealed);
                    let to = [&[model, "-o", sealed.to_str().unwrap()], more].concat();
                    times[i].push(time(|| succeed(&mut self.protect_command(preset, &to))));
                    let mut command = Command::new(ONNXSEAL);
                    command.args(["-q", "rotate", sealed.to_str().unwrap(), "-r"]);
                    command.args([&self.recipient, "-i", self.identity.to_str().unwrap()]);
                    command.args(["-o", out.to_str().unwrap()]).args(more);
                    times[2 + i].push(time(|| succeed(&mut command)));
                    fs::remove_file(&out).unwrap();
                }
                times[4].push(rekey(&["--no-sync"]));
                times[5].push(rekey(&[]));
                let mut version = Command::new(ONNXSEAL);
                version.arg("--version").stdout(Stdio::null());
                times[6].push(time(|| succeed(&mut version)));
                times[7].push(time(|| plain_copy(&self.model, &copy)));
                fs::remove_file(&copy).unwrap();
                let mut verify = Command::new(ONNXSEAL);
                verify.args(["-q", "verify", sealed.to_str().unwrap(), "-i"]);
                verify.arg(&self.identity).stdout(Stdio::null());
                times[8].push(time(|| succeed(&mut verify)));
            }
            fs::remove_file(&sealed).unwrap();
            let [
                quick,
                protect,
                quick_rotate,
                rotate,
                quick_rekey,
                rekey,
                start,
                cp,
                verify,
            ] = times.map(median);
            let rekey = rekey.saturating_sub(start);
            println!(
                "  {:<9} rekey {rekey:.3?} = {:.2} % of protect, --no-sync {:.3?}   rotate {quick_rotate:.3?} = {:.2} x protect, --sync {rotate:.3?} = {:.2} x protect",
                preset.name(),
                100.0 * ratio(rekey, protect),
                quick_rekey.saturating_sub(start),
                ratio(quick_rotate, quick),
                ratio(rotate, protect)
            );
            for (what, most, took) in [("rotate", 1.3, quick_rotate), ("verify", 0.75, verify)] {
                let what = format!("{what}, {}", preset.name());
                figures::print(&what, Asked::AtMost(most), ratio(took, cp), " x cp");
            }
        }
    }

    fn open(&self) {
        let threads = std::thread::available_parallelism().unwrap().get();
        println!("\nopen into memory, against reading the same file with {threads} threads");
        let out = self.path("out.onnx");
        let file = File::open(&self.identity).unwrap();
        let identities = onnxseal_core::Identities::read(file, "id").unwrap();
        let checks = Checks {
            identities: Some(&identities),
            ..Checks::default()
        };
        for preset in Preset::ALL {
            let to = [self.model.to_str().unwrap(), "-o", out.to_str().unwrap()];
            succeed(&mut self.protect_command(preset, &to));
            let mut times = [const { Vec::new() }; 4];
            for _ in 0..ROUNDS {
                times[0].push(read(&out, threads, false));
                times[1].push(read(&out, threads, true));
                times[2].push(time_of(|| {
                    onnxseal_core::open(&out, &identities, &Silent).unwrap()
                }));
                times[3].push(time_of(|| {
                    onnxseal_core::verify(&out, &checks, &Silent).unwrap()
                }));
            }
            let [plain, huge, open, verify] = times.map(median);
            println!(
                "  {:<9} {open:.3?}  {:.2} x read ({plain:.3?})  {:.2} x read into huge pages ({huge:.3?})",
                preset.name(),
                ratio(open, plain),
                ratio(open, huge)
            );
            if preset != Preset::Strong {
                let name = preset.name();
                let (what, measured) = (format!("open, {name}"), ratio(open, huge));
                figures::print(&what, Asked::AtMost(1.15), measured, " x the best reader");
                let (what, measured) = (format!("verify, {name}"), ratio(verify, open));
                figures::print(&what, Asked::AtMost(0.9), measured, " x open");
            }
            fs::remove_file(&out).unwrap();
        }
    }

    /// Opening by each preset, with the processor's instructions for AES and without them.
    ///
    /// AWS-LC is told to do without them. RustCrypto is built to do so:
    /// `RUSTFLAGS='--cfg aes_backend="soft" --cfg polyval_backend="soft"' cargo bench --bench ratios
    /// --no-default-features -- FOLDER MIB instructions`.
    fn instructions(&self) {
        let ways: &[(&str, Option<&str>)] = match cfg!(feature = "aws-lc") {
            true => &[
                ("AWS-LC", None),
                ("AWS-LC without AES", Some(NO_AES)),
                ("AWS-LC without AES and CLMUL", Some(NEITHER)),
            ],
            false => &[("RustCrypto, as it was built", None)],
        };
        println!(
            "\nopen into memory, by preset, each run in a process of its own: time, and the least time of all cores together"
        );
        let out = self.path("out.onnx");
        let bench = std::env::current_exe().unwrap();
        let mut of_full = vec![[Duration::ZERO; 2]; ways.len()];
        for preset in Preset::ALL.into_iter().rev() {
            let to = [self.model.to_str().unwrap(), "-o", out.to_str().unwrap()];
            succeed(&mut self.protect_command(preset, &to));
            for (&(way, mask), of_full) in ways.iter().zip(&mut of_full) {
                let mut open = Command::new(&bench);
                open.arg(OPEN).args([&out, &self.identity]);
                open.envs(mask.map(|mask| ("OPENSSL_ia32cap", mask)));
                let mut times = [const { Vec::new() }; 2];
                for _ in 0..ROUNDS {
                    let printed = String::from_utf8(open.output().unwrap().stdout).unwrap();
                    for (times, seconds) in times.iter_mut().zip(printed.split_whitespace()) {
                        times.push(Duration::from_secs_f64(seconds.parse().unwrap()));
                    }
                }
                let [wall, mut cores] = times;
                cores.sort();
                let took = [median(wall), cores[0]];
                if preset == Preset::Full {
                    *of_full = took;
                }
                let [wall, cores] = took;
                println!(
                    "  {way:<28} {:<9} {wall:.3?} = {:.2} x full   {cores:.3?} = {:.2} x full",
                    preset.name(),
                    ratio(wall, of_full[0]),
                    ratio(cores, of_full[1])
                );
            }
            fs::remove_file(&out).unwrap();
        }
    }

    fn memory(&self) {
        println!("\nmemory of `protect` and `verify -i` beyond mapped files (peak of RssAnon)");
        let out = self.path("out.onnx");
        let to = [self.model.to_str().unwrap(), "-o", out.to_str().unwrap()];
        let protect = peak_anonymous(&mut self.protect_command(Preset::Full, &to));
        let mut verify = Command::new(ONNXSEAL);
        verify.args([
            Path::new("-q"),
            Path::new("verify"),
            &out,
            Path::new("-i"),
            &self.identity,
        ]);
        let verify = peak_anonymous(&mut verify);
        println!("  protect {protect} KiB, verify {verify} KiB");
        fs::remove_file(&out).unwrap();
    }

    fn peers(&self) {
        println!("\nother tools on the same bytes, against protect (full)");
        let (model, out) = (self.model.to_str().unwrap(), self.path("peer"));
        let to = out.to_str().unwrap();
        let age = ["age", "-r", &self.recipient, "-o", to, model];
        self.peer("age", &age, &out);
        let cipher = [
            "openssl",
            "enc",
            "-aes-256-ctr",
            "-pbkdf2",
            "-pass",
            "pass:x",
        ];
        let openssl = [&cipher[..], &["-in", model, "-out", to]].concat();
        self.peer(
            "openssl enc -aes-256-ctr (not authenticated)",
            &openssl,
            &out,
        );

        let python = std::env::var("PYTHON").unwrap_or("python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cryptotensors_peer.py");
        let mut cryptotensors = Command::new(python);
        let printed = cryptotensors.args([script, model, to]).output();
        match printed.map(|output| String::from_utf8(output.stdout).unwrap()) {
            Ok(seconds) if !seconds.is_empty() => {
                println!(
                    "  cryptotensors, without its start: seconds to save and to load {seconds}"
                );
                fs::remove_file(&out).unwrap();
            }
            _ => println!("  cryptotensors: not installed for $PYTHON"),
        }
    }

    /// 200 models of mixed size, against copying the same folder.
    fn batch(&self) {
        let (zoo, copy, out) = (
            self.path("zoo"),
            self.path("zoo-copy"),
            self.path("zoo-out"),
        );
        let mut bytes = 0;
        let mut n = 0;
        // Layers, side of their square weights, how many of these.
        for (layers, side, count) in [
            (4, 32, 80),
            (8, 128, 60),
            (8, 512, 40),
            (5, 1024, 12),
            (3, 2048, 6),
            (20, 2048, 2),
        ] {
            for _ in 0..count {
                let folder = zoo.join(format!("group-{}", n % 10));
                fs::create_dir_all(&folder).unwrap();
                let path = folder.join(format!("{n:03}.onnx"));
                write_layers(&path, layers, side);
                bytes += fs::metadata(path).unwrap().len();
                n += 1;
            }
        }
        keep_warm(3 * bytes as usize);
        println!(
            "\nbatch protect of {n} models, {} MiB: against cp -r, and with --sync against cp -r and sync",
            bytes >> 20
        );
        let report = self.path("report.json");
        let report = ["--report", report.to_str().unwrap()];
        // Of models written just now, digests are taken.
        std::thread::sleep(Duration::from_secs(3));
        for preset in [Preset::Balanced, Preset::Full] {
            let mut times = [const { Vec::new() }; 5];
            for round in 0..2 * times.len() {
                let batch = |more: &[&str]| {
                    let mut command = Command::new(ONNXSEAL);
                    command.args(["-q", "batch", "protect", "--preset", preset.name()]);
                    command.args(["-r", &self.recipient, zoo.to_str().unwrap(), "--out"]);
                    command.arg(&out).args(more);
                    let took = time(|| succeed(&mut command));
                    fs::remove_dir_all(&out).unwrap();
                    took
                };
                // In turn: what comes first finds less free memory.
                for i in 0..times.len() {
                    let i = (i + round) % times.len();
                    times[i].push(match i {
                        0 => time(|| plain_copy(&zoo, &copy)),
                        1 => time(|| {
                            plain_copy(&zoo, &copy);
                            succeed(Command::new("sync").arg("-f").arg(&copy));
                        }),
                        2 => batch(&["--no-records"]),
                        3 => batch(&report),
                        _ => batch(&[&report[..], &["--sync"]].concat()),
                    });
                    let _ = fs::remove_dir_all(&copy);
                }
            }
            let [cp, cp_sync, bare, quick, synced] = times.map(median);
            println!(
                "  {:<9} {quick:.3?} with report, {bare:.3?} without records: {:.2} and {:.2} of the rate of cp -r ({cp:.3?})   {synced:.3?} = {:.2} of that of cp -r and sync ({cp_sync:.3?})",
                preset.name(),
                ratio(cp, quick),
                ratio(cp, bare),
                ratio(cp_sync, synced)
            );
            let what = format!("batch with records, {}", preset.name());
            let measured = ratio(cp, quick);
            figures::print(
                &what,
                Asked::AtLeast(0.95),
                measured,
                " of the rate of cp -r",
            );
        }
    }

    fn peer(&self, name: &str, command: &[&str], out: &Path) {
        let (program, args) = command.split_first().unwrap();
        if Command::new(program).arg("--help").output().is_err() {
            println!("  {name}: not installed");
            return;
        }
        let protected = self.path("out.onnx");
        let ours = [
            self.model.to_str().unwrap(),
            "-o",
            protected.to_str().unwrap(),
        ];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..3 {
            times[0].push(time(|| succeed(Command::new(program).args(args))));
            fs::remove_file(out).unwrap();
            times[1].push(time(|| {
                succeed(&mut self.protect_command(Preset::Full, &ours))
            }));
            fs::remove_file(&protected).unwrap();
        }
        let [peer, protect] = times.map(median);
        let ratio = ratio(peer, protect);
        println!("  {name}: {peer:.3?}, {ratio:.1} x protect ({protect:.3?})");
    }
}

/// Opens a model twice, so that memory is there. Prints the seconds that the second time took, and those of
/// all cores together.
fn open_and_tell(model: &Path, identity: &Path) {
    let identities = onnxseal_core::Identities::read(File::open(identity).unwrap(), "id").unwrap();
    let open = || onnxseal_core::open(model, &identities, &Silent).unwrap();
    drop(open());
    let before = seconds_of_cores();
    let took = time_of(open).as_secs_f64();
    println!("{took} {}", seconds_of_cores() - before);
}

/// What this process had of all cores, in seconds; 0 where the system does not tell.
fn seconds_of_cores() -> f64 {
    // Linux, proc_pid_stat(5): the program's name is in brackets, utime and stime are fields 14 and 15, in
    // hundredths of a second.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}

/// Time to plan graphs of growing size; cost should grow with the number of nodes.
fn plan() {
    println!("\nplan, by number of nodes");
    let folder = tempfile::tempdir().unwrap();
    let policy = Policy::preset(Preset::Balanced);
    let mut before = None;
    for nodes in [25_000u64, 50_000, 100_000] {
        let path = folder.path().join(format!("{nodes}.onnx"));
        write_chain(&path, nodes);
        let runs = (0..ROUNDS).map(|_| time_of(|| onnxseal_core::plan(&path, &policy).unwrap()));
        let took = median(runs.collect());
        let growth = before.map_or(String::new(), |before| {
            format!("  {:.2} x half of it", ratio(took, before))
        });
        println!("  {nodes:>7} nodes  {took:.3?}{growth}");
        before = Some(took);
    }
    if let Some(last) = before {
        let seconds = last.as_secs_f64();
        figures::print("plan 100,000 nodes", Asked::AtMost(0.1), seconds, " s");
    }
}

/// Reads a file into fresh memory with `threads` threads, in pieces of the size of huge pages: in smaller ones threads wait for
/// each other while a page is cleared.
fn read(path: &Path, threads: usize, huge: bool) -> Duration {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len() as usize;
    time_of(|| {
        let mut memory = memmap2::MmapMut::map_anon(len).unwrap();
        #[cfg(target_os = "linux")]
        if huge {
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        let _ = huge;
        let pieces = std::sync::Mutex::new(memory.chunks_mut(2 << 20).enumerate());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = pieces.lock().unwrap().next();
                        let Some((i, piece)) = next else { break };
                        read_exact_at(&file, piece, (i as u64) << 21);
                    }
                });
            }
        });
        memory
    })
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset).unwrap();
}

#[cfg(not(unix))]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = file.try_clone().unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(buffer).unwrap();
}

/// A chain of MatMuls with weights of 16 MiB each, random bytes of plausible magnitude.
fn write_model(path: &Path, mib: u64) {
    const SIDE: usize = 2048;
    write_layers(path, mib.div_ceil((SIDE * SIDE * 4) as u64 >> 20), SIDE);
}
