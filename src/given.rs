//! Opened copies of models in a folder that is in memory already, and the process that removes them
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::unistd::User;
use onnxseal_core::restore_file_limit;
use rustix::fs::{OFlags, major, minor, statfs};
use rustix::process::{self, Pid, Signal, WaitOptions};
use walkdir::WalkDir;

use crate::exit::usage;
use crate::private::own;

#[derive(Debug)]
pub struct Given {
    pub folder: PathBuf,
}

impl Given {
    /// Where the copies are.
    pub fn opened(&self) -> PathBuf {
        self.folder.join("onnxseal-opened")
    }

    /// Where models are opened, before they go there.
    pub fn unplaced(&self) -> PathBuf {
        self.folder.join("onnxseal-unplaced")
    }

    /// Fails where the folder lies in `source`, or that in the folder.
    pub fn check_beside(&self, source: &Path) -> Result<()> {
        if self.folder.starts_with(source) || source.starts_with(&self.folder) {
            let (folder, source) = (self.folder.display(), source.display());
            return Err(usage(format!(
                "{folder} and {source} lie one in the other: choose another --into"
            )));
        }
        Ok(())
    }

    /// Fails where what is written to the folder may get to a disk.
    pub fn check_memory(&self, allow_swap: bool) -> Result<()> {
        const TMPFS: u32 = 0x0102_1994;
        const RAMFS: u32 = 0x8584_58f6;
        let folder = self.folder.display();
        let context = || format!("cannot tell what {folder} is");
        let stat = statfs(&self.folder).with_context(context)?;
        Err(usage(match stat.f_type as u32 {
            RAMFS => return Ok(()),
            TMPFS if allow_swap || self.is_never_swapped().with_context(context)? => return Ok(()),
            TMPFS => format!(
                "{folder} may be swapped out to a disk without encryption: encrypt the swap or \
                 turn it off, mount {folder} with noswap, or give --allow-swap"
            ),
            _ => format!("{folder} is not in memory: opened models would get to a disk"),
        }))
    }

    fn is_never_swapped(&self) -> io::Result<bool> {
        let device = fs::metadata(&self.folder)?.dev();
        let device = format!("{}:{}", major(device), minor(device));
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        // ID PARENT MAJOR:MINOR ROOT PATH OPTIONS ... - TYPE SOURCE OPTIONS
        let is_noswap = |line: &str| {
            line.split(' ').nth(2) == Some(&*device)
                && line
                    .rsplit(' ')
                    .next()
                    .is_some_and(|options| options.split(',').any(|option| option == "noswap"))
        };
        if mounts.lines().any(is_noswap) {
            return Ok(true);
        }
        let swaps = match fs::read_to_string("/proc/swaps") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            read => read?,
        };
        Ok(swaps.lines().skip(1).all(is_encrypted))
    }

    /// Starts this command anew as a child that opens models and becomes the program, and waits for
    /// it. Signals go to the child. Removes the opened copies, unless the child ended well and
    /// `keeps` says so. Once the child has started, this process `forgets` what opens models. Returns the
    /// exit code.
    pub fn watch(&self, keeps: bool, forget: impl FnOnce() -> Result<()>) -> Result<u8> {
        let folder = self.folder.display();
        let lock = File::open(&self.folder).with_context(|| format!("cannot open {folder}"))?;
        lock.try_lock()
            .map_err(|_| usage(format!("{folder} is in use by another `onnxseal run`")))?;
        // What is there was left behind by a run that was killed.
        self.remove()?;
        // Before there is a child, so that no signal ends this process and leaves plaintext.
        let signals = watched_signals();
        signals.thread_block().map_err(io::Error::from)?;
        let code = self.watch_child(&signals, forget);
        if !(keeps && matches!(code, Ok(0))) {
            self.remove()?;
        }
        code
    }

    fn watch_child(&self, signals: &SigSet, forget: impl FnOnce() -> Result<()>) -> Result<u8> {
        let incoming = SignalFd::new(signals).map_err(io::Error::from)?;
        let mut child = self.child().context("cannot start onnxseal anew")?;
        let result = forget().and_then(|()| Ok(wait(&child, &incoming)?));
        if result.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        result
    }

    fn child(&self) -> io::Result<Child> {
        // The program gets the limit that this process had.
        restore_file_limit();
        let watched = format!("--watched-by={}", process::getpid());
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let mut arguments: Vec<_> = arguments.collect();
        let end = arguments.iter().position(|argument| argument == "--");
        arguments.insert(end.unwrap_or(arguments.len()), watched.into());
        // Python finds its virtual environment by the name.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(name).args(arguments).spawn()
    }

    fn remove(&self) -> Result<()> {
        for folder in [self.opened(), self.unplaced()] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let text = format!("cannot remove {}", folder.display());
                    return Err(anyhow::Error::new(error).context(text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives all of it to `user`.
    pub fn give_to(&self, user: &User) -> io::Result<()> {
        own(&self.folder, Some(user))?;
        for entry in WalkDir::new(self.opened()) {
            own(entry?.path(), Some(user))?;
        }
        Ok(())
    }
}

/// Whether what a line of /proc/swaps names is encrypted by dm-crypt.
fn is_encrypted(line: &str) -> bool {
    let device = line.split_whitespace().next().unwrap_or_default();
    let name = Path::new(device).file_name().unwrap_or_default();
    let uuid = Path::new("/sys/class/block").join(name).join("dm/uuid");
    fs::read_to_string(uuid).is_ok_and(|uuid| uuid.starts_with("CRYPT-"))
}

/// The signals that go to the child, and the one that says that it has ended.
fn watched_signals() -> SigSet {
    use nix::sys::signal::Signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    let signals = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
    signals.into_iter().collect()
}

/// Waits for `child`, and passes signals on to it. Returns its exit code, as shells have it.
fn wait(child: &Child, incoming: &SignalFd) -> io::Result<u8> {
    /// Where a terminal sends a signal, the child gets it too.
    const OF_KERNEL: i32 = 0x80;
    let pid = Pid::from_child(child);
    loop {
        // As the first process of a container this one has children that it did not start.
        while let Some((ended, status)) = process::wait(WaitOptions::NOHANG)? {
            if ended == pid {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                return Ok(status.exit_status().or(signal).unwrap_or(1) as u8);
            }
        }
        let info = match incoming.read_signal() {
            Err(nix::Error::EINTR) => continue,
            read => read?,
        };
        let passed_on = info.filter(|info| info.ssi_code != OF_KERNEL);
        let signal = passed_on.and_then(|info| Signal::from_named_raw(info.ssi_signo as i32));
        if let Some(signal) = signal.filter(|signal| *signal != Signal::CHILD) {
            // It may have ended just now.
            let _ = process::kill_process(pid, signal);
        }
    }
}

/// Makes this process end with the process `watcher`, and heed the signals that it does not.
///
/// # Errors
/// Usage if the watcher is not the parent of this process.
pub fn end_with(watcher: i32) -> Result<()> {
    process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    if process::getppid().map(Pid::as_raw_pid) != Some(watcher) {
        return Err(usage("--watched-by is for onnxseal alone"));
    }
    watched_signals()
        .thread_unblock()
        .map_err(io::Error::from)?;
    Ok(())
}

/// Whether there is a link at `path` that leads nowhere.
pub fn is_dangling(path: &Path) -> bool {
    path.is_symlink()
        && fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A copy of `folder` that has the `opened` files in the place of those that are its keys, without
/// `secrets`. Links are followed, but none that lead out of the folder: whoever made them could get
/// files that this process may read.
pub struct Copy<'a> {
    pub folder: &'a Path,
    pub opened: &'a BTreeMap<PathBuf, PathBuf>,
    pub secrets: &'a BTreeSet<PathBuf>,
}

impl Copy<'_> {
    pub fn make(&self, to: &Path) -> Result<()> {
        for entry in WalkDir::new(self.folder).follow_links(true) {
            let entry = match entry {
                Ok(entry) => entry,
                // A link that leads upwards leads to nothing new. One that leads nowhere is left out.
                Err(fault) if fault.loop_ancestor().is_some() => continue,
                Err(fault) if fault.path().is_some_and(is_dangling) => continue,
                Err(fault) => {
                    let path = fault.path().unwrap_or(self.folder).display();
                    let context = format!("cannot copy {path}");
                    let fault = fault.into_io_error().unwrap_or(io::ErrorKind::Other.into());
                    return Err(anyhow::Error::new(fault).context(context));
                }
            };
            let from = entry.path();
            let to = to.join(from.strip_prefix(self.folder)?);
            let context = || format!("cannot copy {}", from.display());
            if entry.file_type().is_dir() {
                let real = fs::canonicalize(from).with_context(context)?;
                self.check(from, &real)?;
                let mut folder = fs::DirBuilder::new();
                folder.mode(0o700).create(to).with_context(context)?;
            } else if entry.file_type().is_file() {
                self.file(from, &to)?;
            }
        }
        Ok(())
    }

    fn file(&self, from: &Path, to: &Path) -> Result<()> {
        let context = || format!("cannot copy {}", from.display());
        // What is checked is what is read: others may change links meanwhile.
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32);
        let mut file = options.open(from).with_context(context)?;
        let real =
            fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).with_context(context)?;
        if let Some(opened) = self.opened.get(&real) {
            return fs::hard_link(opened, to).with_context(context);
        }
        if self.secrets.contains(&real) {
            return Ok(());
        }
        self.check(from, &real)?;
        let mut options = File::options();
        let mut copy = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .with_context(context)?;
        io::copy(&mut file, &mut copy)
            .map(drop)
            .with_context(context)
    }

    fn check(&self, path: &Path, real: &Path) -> Result<()> {
        if real.starts_with(self.folder) {
            return Ok(());
        }
        Err(usage(format!(
            "{} leads out of the folder {}",
            path.display(),
            self.folder.display()
        )))
    }
}
