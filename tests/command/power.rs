//! What a power loss can take: the system calls of the command, as `strace` tells them, on a disk that
//! keeps names at once and bytes only when it is made to. Says that it skips where there is no `strace`,
//! or where it may not trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use onnxseal_testkit::samples;

use crate::lab::Lab;

const CALLS: &str = "openat,open,creat,close,dup,fcntl,write,writev,pwrite64,pwritev,ftruncate,fallocate,ioctl,\
copy_file_range,sendfile,sync_file_range,fsync,fdatasync,syncfs,sync,linkat,link,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat";

/// The disk while a command runs.
#[derive(Default)]
struct Disk {
    /// What is open, by descriptor: a file, or a folder by its path.
    open: BTreeMap<u32, Open>,
    /// Files with bytes that a power loss would take.
    unwritten: BTreeSet<usize>,
    /// Files by name, as far as this command has named or changed them.
    names: BTreeMap<String, usize>,
    /// Names that a power loss would take back.
    pending: BTreeSet<String>,
    n_files: usize,
    told: Told,
}

#[derive(Clone)]
enum Open {
    New(usize),
    Old(usize, String),
}

/// What a command does to a disk.
#[derive(Debug, Default)]
struct Told {
    /// How often it waited for the disk.
    waits: usize,
    /// The files that got new names, each with whether a power loss right after could leave it in part.
    new: BTreeMap<String, bool>,
    /// The same of files that took the place of others.
    replaced: BTreeMap<String, bool>,
    /// Files that were changed in place before what undoes that was on the disk, or whose journal was
    /// removed too early.
    torn: Vec<String>,
    /// The names that a power loss after the end would take back.
    pending: BTreeSet<String>,
    /// Whether it would take bytes then.
    unwritten: bool,
}

impl Told {
    /// All of it is on the disk, and was before it got its name.
    fn is_durable(&self) -> bool {
        let torn = self.new.values().chain(self.replaced.values());
        torn.into_iter().all(|torn| !torn)
            && self.torn.is_empty()
            && self.pending.is_empty()
            && !self.unwritten
    }

    /// The names without their folders.
    fn names(files: &BTreeMap<String, bool>) -> Vec<&str> {
        let names = files.keys().map(|path| path.rsplit('/').next().unwrap());
        names.collect()
    }
}

impl Disk {
    /// Takes one call in: its name, its arguments and what it returned.
    fn take(&mut self, call: &str, args: &str, returned: i64) {
        if returned < 0 {
            return;
        }
        let texts: Vec<String> = args.split('"').skip(1).step_by(2).map(plain).collect();
        let fd = || args.split([',', ')']).next()?.trim().parse::<u32>().ok();
        match call {
            "openat" | "open" | "creat" => {
                let path = texts.first().unwrap().clone();
                let open = match args.contains("O_TMPFILE") || args.contains("O_EXCL") {
                    true => {
                        self.n_files += 1;
                        if !args.contains("O_TMPFILE") {
                            self.name(&path, self.n_files);
                        }
                        Open::New(self.n_files)
                    }
                    false => Open::Old(self.file_at(&path), path),
                };
                self.open.insert(returned as u32, open);
            }
            "close" => drop(fd().and_then(|fd| self.open.remove(&fd))),
            "fcntl" | "dup" if call == "dup" || args.contains("F_DUPFD") => {
                if let Some(open) = fd().and_then(|fd| self.open.get(&fd)).cloned() {
                    self.open.insert(returned as u32, open);
                }
            }
            "ioctl" if !args.contains("FICLONE") => (),
            "copy_file_range" => {
                let to = args.split(',').nth(2).unwrap().trim().parse().ok();
                self.write(to);
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "ftruncate" | "fallocate" | "ioctl"
            | "sendfile" => self.write(fd()),
            "fsync" | "fdatasync" => {
                self.told.waits += 1;
                match fd().and_then(|fd| self.open.get(&fd)).cloned() {
                    Some(Open::New(file)) => drop(self.unwritten.remove(&file)),
                    Some(Open::Old(file, path)) => {
                        self.unwritten.remove(&file);
                        // The names in a folder.
                        self.pending.retain(|name| folder_of(name) != path);
                    }
                    None => (),
                }
            }
            "syncfs" | "sync" => {
                self.told.waits += 1;
                self.unwritten.clear();
                self.pending.clear();
            }
            "linkat" | "link" => {
                let from = texts[0].strip_prefix("/proc/self/fd/");
                let file = match from.map(|fd| &self.open[&fd.parse().unwrap()]) {
                    Some(Open::New(file) | Open::Old(file, _)) => *file,
                    None => self.names[&texts[0]],
                };
                self.name(&texts[1], file);
            }
            "rename" | "renameat" | "renameat2" => {
                let file = self.names.remove(&texts[0]).unwrap();
                self.pending.remove(&texts[0]);
                self.told.new.remove(&texts[0]);
                match args.contains("NOREPLACE") {
                    true => self.name(&texts[1], file),
                    false => {
                        let torn = self.unwritten.contains(&file);
                        self.told.replaced.insert(texts[1].clone(), torn);
                        self.pending.insert(texts[1].clone());
                        self.names.insert(texts[1].clone(), file);
                    }
                }
            }
            // A folder that is reached through a descriptor has another name when it is synced.
            "mkdir" | "mkdirat" if !texts[0].starts_with("/proc/") => {
                self.pending.insert(texts[0].clone());
            }
            "unlink" | "unlinkat" => {
                if texts[0].ends_with("-journal") && !self.unwritten.is_empty() {
                    self.told.torn.push(texts[0].clone());
                }
                self.names.remove(&texts[0]);
                self.pending.remove(&texts[0]);
                self.told.new.remove(&texts[0]);
            }
            _ => (),
        }
    }

    fn name(&mut self, path: &str, file: usize) {
        let torn = self.unwritten.contains(&file);
        self.told.new.insert(path.to_owned(), torn);
        self.pending.insert(path.to_owned());
        self.names.insert(path.to_owned(), file);
    }

    fn file_at(&mut self, path: &str) -> usize {
        *self.names.entry(path.to_owned()).or_insert_with(|| {
            self.n_files += 1;
            self.n_files
        })
    }

    fn write(&mut self, fd: Option<u32>) {
        match fd.and_then(|fd| self.open.get(&fd)) {
            Some(Open::New(file)) => drop(self.unwritten.insert(*file)),
            Some(Open::Old(file, path)) => {
                let others = self.unwritten.iter().any(|other| other != file);
                if others || !self.pending.is_empty() {
                    self.told.torn.push(path.clone());
                }
                self.unwritten.insert(*file);
            }
            // Standard output and error.
            None => (),
        }
    }
}

/// A path without `.` in it.
fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|part| *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Runs the command, which must do what it is told to; `None` where that cannot be traced.
fn trace(lab: &Lab, args: &[&str]) -> Option<Told> {
    let log = lab.path("trace.log");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-s", "4096", "-o"])
        .arg(&log)
        .args(["-e", &format!("trace={CALLS}"), "-e", "signal=none", "--"])
        .arg(env!("CARGO_BIN_EXE_onnxseal"))
        .args(args)
        .current_dir(lab.dir.path())
        .env_remove("ONNXSEAL_IDENTITY");
    let output = strace.output().ok()?;
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || err.contains("ptrace") || err.contains("PTRACE"),
        "{args:?}: {err}"
    );
    if !output.status.success() {
        return None;
    }
    let mut disk = Disk::default();
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    for line in log.lines() {
        let (pid, line) = line.split_once(' ').unwrap();
        let line = line.trim_start();
        if let Some(start) = line.strip_suffix("<unfinished ...>") {
            // Another thread may have the number again before the call returns.
            if let Some(number) = start.strip_prefix("close(") {
                disk.take("close", number, 0);
            }
            begun.insert(pid, start);
            continue;
        }
        let joined = match line.strip_prefix("<... ") {
            Some(rest) if rest.starts_with("close ") => continue,
            Some(rest) => {
                let start = begun.remove(pid).unwrap();
                format!("{start}{}", rest.split_once("resumed>").unwrap().1)
            }
            None => line.to_owned(),
        };
        // Such as that a process has ended.
        let Some((call, (args, returned))) = joined
            .split_once('(')
            .and_then(|(call, rest)| Some((call, rest.rsplit_once(" = ")?)))
        else {
            continue;
        };
        let returned = returned.split(' ').next().unwrap();
        disk.take(call, args, returned.parse().unwrap_or(-1));
    }
    disk.told.pending = disk.pending;
    disk.told.unwritten = !disk.unwritten.is_empty();
    Some(disk.told)
}

fn lab() -> Option<Lab> {
    let lab = Lab::with_sample(&samples::external_data());
    fs::write(lab.path("one.onnx"), samples::conv_net()).unwrap();
    let can = trace(&lab, &["keygen", "-o", "traced.txt"]);
    if can.is_none() {
        eprintln!("skipped: telling what a power loss takes needs strace, and leave to trace");
    }
    can.map(|_| lab)
}

#[test]
fn keys_are_on_the_disk_before_anything_is_made_for_them() {
    let Some(lab) = lab() else { return };
    let told = trace(&lab, &["keygen", "-o", "key.txt"]).unwrap();
    assert!(told.pending.is_empty() && !told.unwritten, "{told:?}");
    assert_eq!(Told::names(&told.new), ["key.txt"]);
    // One that a model gets by the way; the model itself is not waited for.
    let told = trace(&lab, &["-q", "protect", "one.onnx", "-o", "s/one.onnx"]).unwrap();
    assert_eq!(told.new.get("s/one.onnx"), Some(&true), "{told:?}");
    assert!(told.waits >= 2, "{told:?}");
    assert!(
        !told.pending.contains("s/one.onnx.identity.txt"),
        "{told:?}"
    );
}

#[test]
fn what_replaces_nothing_is_waited_for_where_that_is_asked_for() {
    let Some(lab) = lab() else { return };
    let (r, i) = (["-r", &lab.recipient], ["-i", "id.txt"]);
    let cases: [(&str, Vec<&str>, usize); 5] = [
        ("protect one.onnx", r.to_vec(), 1),
        ("protect plain/model.onnx", r.to_vec(), 3),
        ("unprotect sealed/model.onnx", i.to_vec(), 3),
        ("rekey sealed/model.onnx", [r, i].concat(), 3),
        ("rotate sealed/model.onnx", [r, i].concat(), 3),
    ];
    for (number, (command, keys, n_files)) in cases.iter().enumerate() {
        let args = |more: &[&'static str], out: &'static str| -> Vec<&str> {
            let command = command.split(' ');
            let args = ["-q"].into_iter().chain(command);
            args.chain(keys.iter().copied())
                .chain(["-o", out])
                .chain(more.iter().copied())
                .collect()
        };
        fs::create_dir(lab.path("out")).unwrap();
        // Also where a file could be replaced, but there is none.
        for (more, out) in [
            (&[][..], "out/new.onnx"),
            (&["--no-sync"], "out/unsynced/new.onnx"),
            (&["--force"], "out/forced/new.onnx"),
        ] {
            let told = trace(&lab, &args(more, out)).unwrap();
            assert_eq!(told.waits, 0, "{command} {more:?}: {told:?}");
            assert_eq!(told.new.len(), *n_files, "{number}: {told:?}");
            assert!(told.new.contains_key(out) && told.new[out], "{told:?}");
        }
        for (more, out) in [
            (&["--sync"][..], "out/synced/new.onnx"),
            (&["--sync", "--force"], "out/deep/down/new.onnx"),
        ] {
            let told = trace(&lab, &args(more, out)).unwrap();
            assert!(told.is_durable(), "{command} {more:?}: {told:?}");
            assert_eq!(told.new.len(), *n_files, "{number}: {told:?}");
        }
        fs::remove_dir_all(lab.path("out")).unwrap();
    }
    let both = [
        &[
            "-q",
            "protect",
            "one.onnx",
            "-o",
            "x",
            "--sync",
            "--no-sync",
        ],
        &r[..],
    ]
    .concat();
    lab.expect(2, &both);
}

#[test]
fn what_replaces_a_file_is_on_the_disk_before_it_does() {
    let Some(lab) = lab() else { return };
    let (r, i) = (["-r", &lab.recipient], ["-i", "id.txt"]);
    let protect = |out: &str, more: &[&'static str]| {
        let args = ["-q", "protect", "one.onnx", "-o", out, "--force"];
        trace(&lab, &[&args[..], &r, more].concat()).unwrap()
    };
    protect("old.onnx", &[]);
    for more in [&[][..], &["--sync"]] {
        let told = protect("old.onnx", more);
        assert!(told.is_durable(), "{more:?}: {told:?}");
        assert_eq!(Told::names(&told.replaced), ["old.onnx"]);
        assert!(told.new.is_empty());
    }
    // Nobody else is asked to wait.
    let told = protect("old.onnx", &["--no-sync"]);
    assert_eq!((told.waits, told.replaced["old.onnx"]), (0, true));

    let restore = ["-q", "unprotect", "old.onnx", "-o", "back.onnx", "--force"];
    fs::write(lab.path("back.onnx"), "old").unwrap();
    let told = trace(&lab, &[&restore[..], &i].concat()).unwrap();
    assert!(told.is_durable() && told.replaced.len() == 1, "{told:?}");

    for (args, n_new) in [
        (
            [&["-q", "protect", "one.onnx", "--in-place"], &r[..]].concat(),
            0,
        ),
        // With external data, which gets new names.
        (
            [&["-q", "protect", "plain/model.onnx", "--in-place"], &r[..]].concat(),
            2,
        ),
        ([&["-q", "rotate", "one.onnx"], &r[..], &i].concat(), 0),
        (
            [
                &[
                    "-q",
                    "rotate",
                    "sealed/model.onnx",
                    "--external-data",
                    "new",
                ],
                &r[..],
                &i,
            ]
            .concat(),
            2,
        ),
    ] {
        let told = trace(&lab, &args).unwrap();
        assert!(told.is_durable(), "{args:?}: {told:?}");
        assert_eq!(
            (told.replaced.len(), told.new.len()),
            (1, n_new),
            "{told:?}"
        );
    }
}

#[test]
fn what_is_changed_in_place_can_be_undone_until_it_is_on_the_disk() {
    let Some(lab) = lab() else { return };
    let key = lab.path("signer");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    let model = "sealed/model.onnx";
    let mut cases = vec![vec![
        "-q",
        "rekey",
        model,
        "-i",
        "id.txt",
        "-r",
        &lab.recipient,
    ]];
    match made.is_ok_and(|status| status.success()) {
        true => cases.push(vec!["-q", "sign", model, "-k", "signer"]),
        false => eprintln!("skipped: sign, which needs ssh-keygen"),
    }
    for args in cases {
        for more in [&[][..], &["--sync"]] {
            let told = trace(&lab, &[&args, more].concat()).unwrap();
            // The journal, the model and twice their folder.
            assert!(told.is_durable() && told.waits == 4, "{args:?}: {told:?}");
        }
        let told = trace(&lab, &[&args[..], &["--no-sync"]].concat()).unwrap();
        assert_eq!(told.waits, 0, "{args:?}: {told:?}");
        assert!(!told.torn.is_empty());
    }
}

#[test]
fn a_batch_waits_once_where_it_replaces_or_is_asked_to() {
    let Some(lab) = lab() else { return };
    fs::create_dir(lab.path("zoo")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(lab.path(&format!("zoo/{name}.onnx")), samples::conv_net()).unwrap();
    }
    let batch = |out: &'static str, more: &[&'static str]| {
        let args = [
            "-q",
            "batch",
            "protect",
            "zoo",
            "-r",
            &lab.recipient,
            "--out",
            out,
        ];
        let report = ["--report", "report.json", "--force"];
        let told = trace(&lab, &[&args[..], &report, more].concat()).unwrap();
        let report = fs::read(lab.path("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        // The report is on the disk in any case, and waits twice for that.
        (told.waits - 2, report["synced"].as_bool())
    };
    assert_eq!(batch("out", &[]), (0, None));
    assert_eq!(batch("out", &["--resume"]), (0, None));
    assert_eq!(batch("out", &["--resume", "--sync"]), (1, Some(true)));
    assert_eq!(batch("synced", &["--sync"]), (1, Some(true)));
    // Over what is there.
    assert_eq!(batch("out", &[]), (1, Some(true)));
    assert_eq!(batch("out", &["--no-sync"]), (0, None));
    let again = ["--resume", "--preset", "strong"];
    assert_eq!(batch("out", &again), (1, Some(true)));
    fs::remove_file(lab.path("out/b.onnx")).unwrap();
    assert_eq!(batch("out", &again), (0, None));
}
