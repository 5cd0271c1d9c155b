//! Memory that this process alone sees, with those that it starts: a mount namespace of its own,
//! files in memory, and what appears where in the place of what lies there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, initgroups, setresgid, setresuid};
use onnxseal_core::is_same_file;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, openat, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::process::{getegid, geteuid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs,
};

use crate::exit::usage;

const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

#[derive(Debug)]
pub struct Namespace {
    /// Whether it belongs to a user namespace, in which the process has rights that it did not
    /// have.
    pub of_user: bool,
}

impl Namespace {
    /// Moves this process, which may have no other thread yet, to a namespace of its own. Without
    /// the right to do that it gets a user namespace too, in which all its ids are the ones it had.
    ///
    /// # Errors
    /// Usage where the system does not allow it.
    pub fn enter() -> Result<Namespace> {
        Namespace::unshared().map_err(|error| {
            usage(format!(
                "the system allows no private mounts ({error}): run as root (in a container with \
                 CAP_SYS_ADMIN), allow user namespaces, or name a folder in memory with --into"
            ))
        })
    }

    fn unshared() -> io::Result<Namespace> {
        let of_user = match unshare(CloneFlags::CLONE_NEWNS) {
            Ok(()) => false,
            Err(nix::Error::EPERM) => {
                let (user, group) = (geteuid().as_raw(), getegid().as_raw());
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
                // Without it, groups could be given up that deny something.
                fs::write("/proc/self/setgroups", "deny")?;
                fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
                fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
                true
            }
            Err(error) => return Err(error.into()),
        };
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", flags)?;
        Ok(Namespace { of_user })
    }

    /// Mounts memory that is never swapped out, of at most `size` bytes. Until [`Memory::detach`]
    /// it covers a folder that none of `needed` lies in.
    pub fn memory<'a>(
        &self,
        size: Option<u64>,
        needed: impl Iterator<Item = &'a PathBuf>,
    ) -> Result<Memory> {
        let at = spare_folder(needed)?;
        // `noswap` is new in Linux 6.4, and for the initial user namespace only. ramfs is never
        // swapped out, nor limited in size.
        let limit = size.map_or(String::new(), |bytes| format!(",size={bytes}"));
        let mut mounted = mount_memory("tmpfs", &at, &format!("mode=0700,noswap{limit}"));
        if mounted.is_err() && size.is_none() {
            mounted = mount_memory("ramfs", &at, "mode=0700");
        }
        mounted.map_err(|error| {
            usage(match size {
                Some(_) => format!(
                    "cannot mount memory that is limited and never swapped out ({error}), which \
                     needs Linux 6.4 and root: without --size there is no limit"
                ),
                None => format!(
                    "cannot mount memory ({error}): run as root, or name a folder in memory with --into"
                ),
            })
        })?;
        Ok(Memory { at })
    }

    /// Gives up the rights that this thread, and programs that it executes, need no longer. The
    /// thread goes on as `user`, if the caller names one.
    pub fn give_up_rights(&self, user: Option<&User>) -> io::Result<()> {
        if self.of_user {
            // Else root gets all rights of the namespace back when it executes a program.
            set_capabilities_secure_bits(
                CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED,
            )?;
            set_no_new_privs(true)?;
        }
        user.map_or(Ok(()), become_user)
    }
}

/// Goes on as `user`, without rights.
pub fn become_user(user: &User) -> io::Result<()> {
    let name = CString::new(user.name.as_bytes())?;
    initgroups(&name, user.gid)?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(set_no_new_privs(true)?)
}

fn mount_memory(kind: &str, at: &Path, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(mount("onnxseal", at, kind, FLAGS, options.as_c_str())?)
}

/// A folder to mount memory over for a while, which hides nothing that is needed.
fn spare_folder<'a>(needed: impl Iterator<Item = &'a PathBuf>) -> Result<PathBuf> {
    const FOLDERS: [&str; 8] = [
        "/mnt", "/media", "/srv", "/opt", "/var/tmp", "/tmp", "/dev/shm", "/sys",
    ];
    let needed: Vec<&PathBuf> = needed.collect();
    let is_spare =
        |folder: &PathBuf| folder.is_dir() && !needed.iter().any(|path| path.starts_with(folder));
    let folders = FOLDERS
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok());
    let spare: Vec<PathBuf> = folders.filter(is_spare).collect();
    // Links may lead to what lies in a folder that is not empty.
    let is_empty =
        |folder: &&PathBuf| fs::read_dir(folder).is_ok_and(|mut all| all.next().is_none());
    let found = spare.iter().find(is_empty).or(spare.first());
    found.cloned().ok_or_else(|| {
        usage("there is no folder to mount memory over for a moment: make an empty /mnt")
    })
}

/// Memory that is mounted over a folder.
#[derive(Debug)]
pub struct Memory {
    at: PathBuf,
}

impl Memory {
    /// Makes the folder for opened files. No other path shows them until [`Memory::place`].
    pub fn opened(&self) -> io::Result<PathBuf> {
        let folder = self.at.join("opened");
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Lets `file` appear empty, at its canonical path and wherever else its file system is mounted.
    /// Nobody can write to what appears.
    pub fn cover(&self, file: &Path) -> io::Result<()> {
        let empty = self.at.join("empty");
        if !empty.exists() {
            drop(File::create(&empty)?);
            mount_bind(&empty, &empty)?;
            mount_remount(&empty, MountFlags::BIND | MountFlags::RDONLY | FLAGS, "")?;
        }
        for path in paths_of(file)? {
            mount_bind(&empty, by_descriptor(&open_canonical(&path)?))?;
        }
        Ok(())
    }

    /// Lets the `opened` files appear in the place of those that are its keys: files below one of
    /// `folders` in a folder of memory that has everything else of it too, others each by itself.
    /// All paths are canonical. The files belong to `user`, and are read-only.
    pub fn place(
        &self,
        mut opened: BTreeMap<PathBuf, PathBuf>,
        folders: &[PathBuf],
        user: Option<&User>,
    ) -> Result<()> {
        let open = |path: &Path| {
            open_canonical(path).with_context(|| format!("cannot open {}", path.display()))
        };
        let trees = self.at.join("trees");
        fs::create_dir(&trees)?;
        for file in opened.values() {
            fs::set_permissions(file, fs::Permissions::from_mode(0o400))?;
            own(file, user)?;
        }
        let mut places = Vec::new();
        for (i, folder) in folders.iter().enumerate() {
            if holds(&opened, folder) {
                let tree = trees.join(i.to_string());
                // By descriptors: whoever may rename folders cannot lead this elsewhere.
                let real = open(folder)?;
                self.plant(&real, folder, &tree, &mut opened, user)?;
                places.push((tree, real, folder.clone()));
            }
        }
        for (protected, file) in opened {
            places.push((file, open(&protected)?, protected));
        }
        // What is mounted from here on is like this mount.
        mount_remount(&self.at, MountFlags::BIND | MountFlags::RDONLY | FLAGS, "")?;
        for (memory, real, path) in places {
            mount_bind_recursive(memory, by_descriptor(&real))
                .with_context(|| format!("cannot mount memory over {}", path.display()))?;
        }
        Ok(())
    }

    /// Makes `tree` of the folder `real`, whose path is `path`: with the files of `opened` that
    /// belong there, and with everything else of it mounted, not copied.
    fn plant(
        &self,
        real: &OwnedFd,
        path: &Path,
        tree: &Path,
        opened: &mut BTreeMap<PathBuf, PathBuf>,
        user: Option<&User>,
    ) -> Result<()> {
        fs::create_dir(tree)?;
        own(tree, user)?;
        let entries = fs::read_dir(by_descriptor(real));
        for entry in entries.with_context(|| format!("cannot read {}", path.display()))? {
            let name = entry?.file_name();
            let (path, to) = (path.join(&name), tree.join(&name));
            if let Some(file) = opened.remove(&path) {
                fs::rename(file, to)?;
                continue;
            }
            let planted = open_path(real, Path::new(&name)).map_err(io::Error::from);
            let context = || format!("cannot show {} to the program", path.display());
            let entry = planted.with_context(context)?;
            let kind = FileType::from_raw_mode(fstat(&entry)?.st_mode);
            if kind == FileType::Symlink {
                let target = rustix::fs::readlinkat(&entry, "", Vec::new())?;
                symlink(OsStr::from_bytes(target.as_bytes()), to)?;
            } else if kind == FileType::Directory && holds(opened, &path) {
                self.plant(&entry, &path, &to, opened, user)?;
            } else {
                if kind == FileType::Directory {
                    fs::create_dir(&to)?;
                } else {
                    drop(File::create(&to)?);
                }
                mount_bind_recursive(by_descriptor(&entry), &to).with_context(context)?;
            }
        }
        Ok(())
    }

    /// Takes the memory away from the folder that it covers. Placed files stay.
    pub fn detach(self) -> io::Result<()> {
        Ok(unmount(&self.at, UnmountFlags::DETACH)?)
    }
}

/// All paths of the file at a canonical path: a file system may be mounted several times, in parts
/// too.
fn paths_of(file: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let own = statx(CWD, file, AtFlags::empty(), StatxFlags::MNT_ID)?;
    let own = own.stx_mnt_id.to_string();
    let mounts = fs::read("/proc/self/mountinfo")?;
    // ID PARENT MAJOR:MINOR ROOT PATH ...
    let mounts = mounts
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b' ').collect::<Vec<_>>());
    let mounts = mounts.filter_map(|words| match words[..] {
        [id, _, device, root, path, ..] => Some((id, device, unescaped(root), unescaped(path))),
        _ => None,
    });
    let mounts: Vec<_> = mounts.collect();
    let mut paths = BTreeSet::from([file.to_owned()]);
    if let Some((_, own_device, root, path)) = mounts.iter().find(|(id, ..)| *id == own.as_bytes())
        && let Ok(below) = file.strip_prefix(path)
    {
        let within = joined(root, below);
        for (_, device, root, path) in &mounts {
            if let Ok(below) = within.strip_prefix(root)
                && device == own_device
            {
                paths.insert(joined(path, below));
            }
        }
    }
    // Another mount may cover a path.
    paths.retain(|path| is_same_file(path, file));
    Ok(paths)
}

fn joined(path: &Path, below: &Path) -> PathBuf {
    path.iter().chain(below).collect()
}

/// Reads a path of mountinfo, in which white space and backslashes are octal numbers.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut parts = text.split(|byte| *byte == b'\\');
    let mut bytes = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3).unwrap_or((part, &[]));
        let digits = str::from_utf8(digits).unwrap_or_default();
        bytes.extend(u8::from_str_radix(digits, 8).ok());
        bytes.extend(rest);
    }
    OsStr::from_bytes(&bytes).into()
}

/// Whether one of `opened` lies below `folder`.
fn holds(opened: &BTreeMap<PathBuf, PathBuf>, folder: &Path) -> bool {
    let mut below = opened.range(folder.to_path_buf()..);
    below
        .next()
        .is_some_and(|(path, _)| path.starts_with(folder))
}

pub fn own(path: &Path, user: Option<&User>) -> io::Result<()> {
    user.map_or(Ok(()), |user| {
        lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
    })
}

/// A descriptor of what lies at `path` itself, not at what a link there leads to.
fn open_path(folder: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, path, flags, Mode::empty())
}

/// A descriptor of what lies at a canonical path.
fn open_canonical(path: &Path) -> io::Result<OwnedFd> {
    let descriptor = open_path(CWD, path)?;
    if fs::read_link(by_descriptor(&descriptor))? != path {
        let text = "it was moved or replaced while models were opened: run this again";
        return Err(io::Error::other(text));
    }
    Ok(descriptor)
}

fn by_descriptor(descriptor: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}
