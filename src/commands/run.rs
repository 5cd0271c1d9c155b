//! `onnxseal run`

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::User;
use onnxseal_batch::discover;
use onnxseal_core::{
    self as core, Access, IDENTITY_VARIABLE, Location, Publication, folder_of, restore_file_limit,
};
use rustix::fs::{Access as Right, Mode, access};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit, umask};
use walkdir::WalkDir;

use crate::checks::passed_over;
use crate::cli::{OutFolder, run::Run};
use crate::exit::{failed, not_met, usage};
use crate::given::{self, Copy, Given};
use crate::private::{self, Namespace};
use crate::progress::Bar;
use crate::text::{count, is_quiet, note, one_line, tell};

/// Opens models, and becomes the program that is to use them.
pub fn run(args: &Run) -> Result<()> {
    args.program
        .first()
        .map_or(Ok(()), |name| check_program(name))?;
    let user = args.user.as_deref().map(user).transpose()?;
    let sources = args.models.iter().map(|path| canonical(path));
    let job = Job {
        args,
        sources: sources.collect::<Result<_>>()?,
        user,
    };
    // What this process opens, and what the program reads.
    leave_no_dumps()?;
    match &args.into {
        None => job.in_namespace(),
        Some(OutFolder(folder)) => job.in_given(&Given {
            folder: canonical(folder)?,
        }),
    }
}

/// The models to open, and the user that the program runs as.
struct Job<'a> {
    args: &'a Run,
    /// Where the models and folders lie that are named.
    sources: Vec<PathBuf>,
    user: Option<User>,
}

impl Job<'_> {
    /// Lets opened models appear in the place of the protected ones, for this process and its
    /// children.
    fn in_namespace(&self) -> Result<()> {
        // While this process has one thread.
        let namespace = Namespace::enter()?;
        if self.user.is_some() && namespace.of_user {
            return Err(usage(
                "--user needs the right to mount (CAP_SYS_ADMIN): a user namespace has one user",
            ));
        }
        let path = match self.args.models.as_slice() {
            [path] => Some(std::path::absolute(path)?),
            _ => None,
        };
        let program = command(&self.args.program, path.as_deref())?;
        let umask_before = umask(Mode::RWXG | Mode::RWXO);
        let opening = self.args.opening.require_for(&self.args.reader)?;
        let secrets = self.secrets();
        let here = std::env::current_dir().ok();
        let needed = self.sources.iter().chain(&secrets).chain(&here);
        let memory = namespace.memory(self.args.size, needed)?;
        let opened = self.open(opening.access_to(&self.args.reader), &memory.opened()?)?;
        drop(opening);
        self.forget()?;
        for secret in &secrets {
            let covered = memory.cover(secret);
            covered.with_context(|| format!("cannot hide {} from PROGRAM", secret.display()))?;
        }
        memory.place(opened, &self.folders(), self.user.as_ref())?;
        memory.detach()?;
        if let Some(here) = here {
            // It leads to what is under the memory.
            std::env::set_current_dir(&here)
                .with_context(|| format!("cannot enter {}", here.display()))?;
        }
        umask(umask_before);
        let given_up = namespace.give_up_rights(self.user.as_ref());
        given_up.context("cannot give up rights")?;
        become_program(program)
    }

    /// Makes opened copies in a folder. One process does that and becomes the program, another
    /// watches it.
    fn in_given(&self, given: &Given) -> Result<()> {
        let [source] = self.sources.as_slice() else {
            return Err(usage("--into takes one model or folder"));
        };
        given.check_beside(source)?;
        let Some(watcher) = self.args.watched_by else {
            given.check_memory(self.args.allow_swap)?;
            let keeps = self.args.program.is_empty();
            return match given.watch(keeps, || self.forget())? {
                0 => Ok(()),
                code => std::process::exit(code.into()),
            };
        };
        given::end_with(watcher)?;
        let (is_folder, name) = (source.is_dir(), self.args.models[0].file_name());
        let path = match name {
            Some(name) if !is_folder => given.opened().join(name),
            _ => given.opened(),
        };
        let program = command(&self.args.program, Some(&path))?;
        let umask_before = umask(Mode::RWXG | Mode::RWXO);
        let opening = self.args.opening.require_for(&self.args.reader)?;
        let unplaced = given.unplaced();
        fs::create_dir(&unplaced)
            .with_context(|| format!("cannot write to {}", unplaced.display()))?;
        let opened = self.open(opening.access_to(&self.args.reader), &unplaced)?;
        drop(opening);
        let secrets = self.secrets();
        self.forget()?;
        if is_folder {
            let copy = Copy {
                folder: source,
                opened: &opened,
                secrets: &secrets,
            };
            copy.make(&given.opened())?;
        } else if opened.is_empty() {
            return Err(usage(format!(
                "{} is not protected: name its folder",
                source.display()
            )));
        } else {
            fs::rename(unplaced.join("0"), given.opened())?;
        }
        fs::remove_dir_all(&unplaced)?;
        if let Some(user) = &self.user {
            let given_up = given
                .give_to(user)
                .and_then(|()| private::become_user(user));
            given_up.context("cannot give up rights")?;
            // The kernel forgets it where rights change.
            given::end_with(watcher)?;
        }
        umask(umask_before);
        become_program(program)
    }

    /// The folders that are named and lie in no other of them.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = Vec::new();
        let mut sources = self.sources.clone();
        // A folder stands before what lies in it.
        sources.sort();
        for source in sources {
            if source.is_dir() && !folders.iter().any(|folder| source.starts_with(folder)) {
                folders.push(source);
            }
        }
        folders
    }

    /// Opens all models, each to a folder of its own in `to`, which are numbered. Returns the
    /// opened files by the protected ones.
    fn open(&self, access: Access<'_>, to: &Path) -> Result<BTreeMap<PathBuf, PathBuf>> {
        let found = discover(&self.args.models, &[] as &[&Path])?;
        if let Some(text) = passed_over(&found) {
            tell(&format!("note: {text}"));
        }
        for row in found.unreadable {
            match row.found.location {
                // It does so for the program too.
                Location::File(path) if given::is_dangling(&path) => {
                    let path = one_line(&path.display().to_string());
                    tell(&format!("note: {path} is a link that leads nowhere"));
                }
                _ => return Err(row.error.into()),
            }
        }
        if found.models.is_empty() {
            return Err(usage("there is no ONNX model: nothing was opened"));
        }
        let (mut protected, mut plain) = (Vec::new(), Vec::new());
        for model in found.models {
            match core::is_protected(&model.location)? {
                true => protected.push(model.location),
                false => plain.push(model.location),
            }
        }
        self.check_plain(&plain)?;
        // A link may lack the data that lie beside the file that it leads to.
        protected.sort_by_key(|model| matches!(model, Location::File(path) if path.is_symlink()));
        let mut opened = BTreeMap::new();
        let mut first_names: BTreeMap<PathBuf, &Path> = BTreeMap::new();
        for (i, model) in protected.iter().enumerate() {
            let Location::File(path) = model else {
                continue;
            };
            let real = canonical(path)?;
            if let Some(first) = first_names.get(&real) {
                check_same_data(path, first)?;
                continue;
            }
            first_names.insert(real.clone(), path);
            let folder = to.join(i.to_string());
            fs::create_dir(&folder)
                .with_context(|| format!("cannot write to {}", folder.display()))?;
            let name = path.file_name().unwrap_or(OsStr::new("model.onnx"));
            let mut publication = Publication::from(folder.join(name));
            publication.keep_paths = true;
            core::unprotect(model, publication, access, &Bar::new())?;
            // Else a link that somebody puts there meanwhile leads the mount elsewhere.
            if canonical(path)? != real {
                return Err(usage(format!(
                    "{} was replaced while it was opened: run this again",
                    path.display()
                )));
            }
            for entry in WalkDir::new(&folder) {
                let entry = entry?;
                if entry.file_type().is_dir() {
                    continue;
                }
                let relative = entry.path().strip_prefix(&folder)?;
                let of = canonical(&folder_of(path).join(relative))?;
                if opened.insert(of.clone(), entry.into_path()).is_some() {
                    return Err(usage(format!(
                        "two models have the file {}: open one of them",
                        of.display()
                    )));
                }
            }
        }
        Ok(opened)
    }

    /// Fails if models are not protected, unless that is allowed.
    fn check_plain(&self, plain: &[Location]) -> Result<()> {
        let models = count(plain.len() as u64, "model");
        if plain.is_empty() || (self.args.allow_plain && is_quiet()) {
            return Ok(());
        }
        for model in plain {
            note(&format!("{}: not protected", one_line(&model.to_string())));
        }
        if self.args.allow_plain {
            return Ok(());
        }
        Err(not_met(format!(
            "{models} not protected: protect them, or give --allow-plain"
        )))
    }

    /// The files that identities and passphrases are read from.
    fn secrets(&self) -> BTreeSet<PathBuf> {
        let files = self.args.opening.identities.files().into_iter();
        // A descriptor leads to its file, if it is one.
        let real = files.filter_map(|file| fs::canonicalize(file).ok());
        real.filter(|file| file.is_file()).collect()
    }

    /// Closes the descriptors that identities and passphrases are read from, and all others of the
    /// same files and pipes.
    fn forget(&self) -> Result<()> {
        let secrets = self.args.opening.identities.files();
        let read = secrets.iter().filter_map(|path| file_or_pipe(path));
        let read: Vec<(u64, u64)> = read.collect();
        let mut closed: BTreeSet<i32> =
            secrets.iter().filter_map(|path| descriptor(path)).collect();
        let context = "cannot tell what descriptors are open";
        for entry in fs::read_dir(DESCRIPTORS).context(context)? {
            let path = entry.context(context)?.path();
            if file_or_pipe(&path).is_some_and(|file| read.contains(&file)) {
                closed.extend(descriptor(&path));
            }
        }
        for number in closed {
            if number == 0 {
                let nothing = File::open("/dev/null").context("cannot open /dev/null")?;
                rustix::stdio::dup2_stdin(nothing).map_err(io::Error::from)?;
            } else {
                let _ = nix::unistd::close(number);
            }
        }
        Ok(())
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Fails if `path` leads to the model at `first`, and other external data lie beside it: one file
/// cannot be opened with both.
fn check_same_data(path: &Path, first: &Path) -> Result<()> {
    for file in core::inspect(first)?.files.iter().skip(1) {
        let beside = |model: &Path| folder_of(model).join(&file.path);
        // Where it has no data, the program cannot open the model by this name with or without us.
        let Ok(data) = fs::canonicalize(beside(path)) else {
            continue;
        };
        if data != canonical(&beside(first))? {
            let (path, first) = (path.display(), first.display());
            return Err(usage(format!(
                "{path} and {first} are one file with different external data: open one of them"
            )));
        }
    }
    Ok(())
}

fn user(name: &str) -> Result<User> {
    let found = User::from_name(name).map_err(io::Error::from)?;
    if !rustix::process::geteuid().is_root() {
        return Err(usage("--user needs root"));
    }
    found.ok_or_else(|| usage(format!("there is no user {name}")))
}

const DESCRIPTORS: &str = "/proc/self/fd/";

/// Device and number of the file or pipe at `path`. A terminal is neither: it is standard output
/// too.
fn file_or_pipe(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    let kind = found.file_type();
    (kind.is_file() || kind.is_fifo()).then(|| (found.dev(), found.ino()))
}

/// The descriptor of this process that `path` stands for.
fn descriptor(path: &Path) -> Option<i32> {
    let path = path.to_str()?;
    if path == "/dev/stdin" {
        return Some(0);
    }
    let number = ["/dev/fd/", DESCRIPTORS].into_iter();
    let mut number = number.filter_map(|folder| path.strip_prefix(folder));
    number.next()?.parse().ok()
}

/// Returns the command of a program and its arguments, with `path` in the place of `{}`.
fn command(program: &[OsString], path: Option<&Path>) -> Result<Option<Command>> {
    let Some((program, arguments)) = program.split_first() else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    for argument in arguments {
        let mut filled = Vec::new();
        for piece in argument.as_bytes().split_inclusive(|byte| *byte == b'}') {
            match (piece.strip_suffix(b"{}"), path) {
                (None, _) => filled.extend_from_slice(piece),
                (Some(before), Some(path)) => {
                    filled.extend_from_slice(before);
                    filled.extend_from_slice(path.as_os_str().as_bytes());
                }
                (Some(_), None) => {
                    return Err(usage(
                        "{} stands for the one MODEL: with several, name their paths",
                    ));
                }
            }
        }
        command.arg(OsString::from_vec(filled));
    }
    Ok(Some(command))
}

/// Fails, as shells do, where there is no such program, or it cannot be run.
fn check_program(program: &OsStr) -> Result<()> {
    // Where `exec` looks without the variable.
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![program.into()]
    } else {
        let folders = std::env::split_paths(&path);
        folders.map(|folder| folder.join(program)).collect()
    };
    let mut files = candidates.iter().filter(|path| path.is_file()).peekable();
    if files.peek().is_none() {
        return Err(not_run(program, Errno::NOENT.into()));
    }
    if files.any(|file| access(file, Right::EXEC_OK).is_ok()) {
        Ok(())
    } else {
        Err(not_run(program, Errno::ACCESS.into()))
    }
}

/// The error of a program that cannot be run, with the exit codes of shells.
fn not_run(program: &OsStr, error: io::Error) -> anyhow::Error {
    let code = match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    failed(code, format!("cannot run {}: {error}", program.display()))
}

/// Keeps the kernel from writing the memory of this process, and of the program, to a file: the
/// size is 0, and the filter leaves nothing to what the kernel pipes to another program.
fn leave_no_dumps() -> Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(io::Error::from)?;
    match fs::write("/proc/self/coredump_filter", "0") {
        // A kernel without core dumps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.context("cannot turn off core dumps"),
    }
}

/// Becomes the program, if there is one.
fn become_program(command: Option<Command>) -> Result<()> {
    let Some(mut command) = command else {
        return Ok(());
    };
    restore_file_limit();
    let error = command.env_remove(IDENTITY_VARIABLE).exec();
    Err(not_run(command.get_program(), error))
}
