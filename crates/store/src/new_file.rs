//! A file that appears whole or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::path::Path;

use tempfile::TempPath;

use crate::draft;
use crate::error::{Error, Result, io as io_error};
use crate::folder::{MadeFolders, OutputPath, sync_folder};
use crate::location::{Location, folder_of};
use crate::no_links::Folder;
use crate::output::{Flush, Output, OutputOptions, Permitted, Published, Readers};
use crate::stamp::Stamp;
use crate::stream::{Stream, There};

impl OutputOptions {
    /// Refuses `output` if a file is in the way. Publishing checks again; this early check is for
    /// callers whose work takes long.
    pub fn check_free(&self, output: &Location) -> Result<()> {
        match output {
            Location::File(path) => check_file(path, self.replace).map(drop),
            _ => Ok(()),
        }
    }
}

/// Begins a file. A model named the last `below` folders above it: none of them may be a link.
pub fn create_file(path: &Path, below: usize, replace: bool) -> Result<Box<dyn Output>> {
    if check_file(path, replace)? == There::Stream {
        return Ok(Box::new(Stream::create(path, replace)?));
    }
    let path = path.to_owned();
    Ok(Box::new(NewFile::create(OutputPath { path, below })?))
}

fn check_file(path: &Path, replace: bool) -> Result<There> {
    match There::at(path)? {
        There::File if !replace => Err(Error::OutputExists(path.to_owned())),
        there => Ok(there),
    }
}

/// A file that is being written and has no name yet.
///
/// On Linux it is an unnamed file (`O_TMPFILE`), which vanishes however the process ends. Only
/// while it replaces another file, the complete file briefly has a hidden name before it is
/// renamed. If the system or the file system lacks unnamed files, it is a hidden file beside the
/// output, removed on failure or, if the process is killed, by the next process that writes there
/// (see [`draft`]). Until it has its own name, only its owner may read it. Then it gets the permissions
/// of its input, as far as the process's umask allows them for a new file in that folder, and never
/// the bits setuid, setgid and sticky.
struct NewFile {
    place: OutputPath,
    file: File,
    /// Its hidden name, if it has one, and the open folder through which that is reached.
    hidden: Option<(TempPath, Folder)>,
    /// The permissions that it may get, as bits of the mode.
    allowed: u32,
    made: MadeFolders,
}

const PERMISSIONS: u32 = 0o777;

impl Output for NewFile {
    fn file(&self) -> Option<(&Path, &File)> {
        Some((&self.place.path, &self.file))
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        Ok(Stamp::of(&self.file).map(Stamp::before_naming))
    }

    fn finish(&self, flush: Flush) -> Result<()> {
        // Only naming it tells whether it replaces a file.
        match flush {
            Flush::ToDisk => self.file.sync_all(),
            Flush::Replacing | Flush::Later => Ok(()),
        }
        .map_err(io_error("write", &self.place.path))
    }

    fn publish(self: Box<Self>, permitted: Permitted, options: OutputOptions) -> Result<Published> {
        if options.replace {
            // The path may lead to something else by now.
            check_file(&self.place.path, true)?;
        }
        let NewFile {
            place,
            file,
            hidden,
            allowed,
            made,
        } = *self;
        // The folder was closed, since a model may have thousands of files.
        let folder = place.folder()?;
        let to = (folder.path(), &*place.within(&folder));
        #[cfg(windows)]
        if let (Some((hidden, _)), false) = (&hidden, permitted == Permitted::OWNER) {
            let inherited = crate::windows::inherit_rights(hidden);
            inherited.map_err(io_error("create", &place.path))?;
        }
        let named = permissions(permitted, &file, allowed)
            .and_then(|permissions| name(file, hidden, to, permissions, options));
        let replaced = named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::OutputExists(place.path.clone()),
            _ => io_error("create", &place.path)(error),
        })?;
        let sync = waits_for(options.flush, replaced);
        if sync {
            sync_folder(folder.path());
        }
        made.keep(sync);
        Ok(Published(Box::new(move || drop(place.remove()))))
    }

    fn take_place_of(&mut self, like: &Metadata) {
        self.allowed = PERMISSIONS;
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, fchown};
            let _ = fchown(&self.file, Some(like.uid()), Some(like.gid()));
        }
        #[cfg(not(unix))]
        let _ = like;
    }
}

fn waits_for(flush: Flush, replaced: bool) -> bool {
    flush == Flush::ToDisk || flush == Flush::Replacing && replaced
}

impl NewFile {
    fn create(place: OutputPath) -> Result<NewFile> {
        let (folder, made) = place.make_folder()?;
        let fault = io_error("create a file in", folder_of(&place.path));
        #[cfg(target_os = "linux")]
        let unnamed = unnamed(&folder);
        #[cfg(not(target_os = "linux"))]
        let unnamed = Ok(None);
        let file = unnamed.and_then(|unnamed| match unnamed {
            Some((file, allowed)) => Ok((file, None, allowed)),
            None => named(folder).map(|(file, hidden, allowed)| (file, Some(hidden), allowed)),
        });
        let (file, hidden, allowed) = file.map_err(fault)?;
        Ok(NewFile {
            place,
            file,
            hidden,
            allowed,
            made,
        })
    }
}

/// Gives the file the name `to` in `folder`, and its permissions. As long as it has a hidden name,
/// with which a killed process leaves it behind, only its owner may read it. Returns whether it
/// replaced a file.
fn name(
    file: File,
    hidden: Option<(TempPath, Folder)>,
    (folder, to): (&Path, &Path),
    permissions: Permissions,
    options: OutputOptions,
) -> io::Result<bool> {
    if hidden.is_none() {
        let own = file.metadata()?.permissions();
        file.set_permissions(permissions.clone())?;
        match link(&file, to) {
            Err(error) if options.replace && error.kind() == io::ErrorKind::AlreadyExists => {
                file.set_permissions(own)?;
            }
            linked => return linked.map(|()| false),
        }
    }
    let replaces = hidden.is_none() || options.replace && fs::symlink_metadata(to).is_ok();
    if replaces && options.flush == Flush::Replacing {
        // Before it replaces the old one. Otherwise it is synced already, or nobody waits.
        file.sync_all()?;
    }
    // What a failed call returns removes the hidden name, through the open folder.
    let removed = |error: tempfile::PathPersistError| error.error;
    match hidden {
        Some((path, _folder)) if !options.replace => path.persist_noclobber(to).map_err(removed),
        // Some file systems can rename over a name, but lack a rename that refuses to.
        Some((path, _folder)) => draft::persist_over(path, to),
        // Linking cannot replace a name; only renaming can.
        None => {
            let between = draft::builder().make_in(folder, |to| link(&file, to))?;
            draft::persist_over(between.into_temp_path(), to)
        }
    }?;
    // If this fails, its owner alone may read it.
    let permitted = file.set_permissions(permissions);
    if permitted.is_ok() && waits_for(options.flush, replaces) {
        let _ = file.sync_all();
    }
    Ok(replaces)
}

/// Makes a file without a name, if kernel and file system have them. Returns the permissions that a
/// new file there may have too.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Folder) -> io::Result<Option<(File, u32)>> {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, Mode, OFlags, openat};
    use rustix::io::Errno;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match openat(CWD, folder.path(), flags, Mode::from_raw_mode(PERMISSIONS)) {
        Ok(file) => File::from(file),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if fs::symlink_metadata(path_of(&file)).is_err() {
        // Without `/proc` it could not get its name.
        return Ok(None);
    }
    // Learn all permissions of a new file here, then restrict it to its owner before it has bytes.
    let allowed = file.metadata()?.permissions().mode() & PERMISSIONS;
    file.set_permissions(Permissions::from_mode(0o600))?;
    draft::sweep(folder.path());
    // Before it has even its short-lived hidden name.
    draft::hold(&file);
    Ok(Some((file, allowed)))
}

fn named(folder: Folder) -> io::Result<(File, (TempPath, Folder), u32)> {
    #[cfg(unix)]
    let allowed = {
        // A process that opened this file while its permissions were wide could keep reading it.
        // So ask a second file for the permissions, and restrict this one to its owner from the
        // start.
        use std::os::unix::fs::PermissionsExt;
        let mut probe = draft::builder();
        let probe = probe.permissions(Permissions::from_mode(PERMISSIONS));
        let metadata = probe.tempfile_in(folder.path())?.as_file().metadata()?;
        metadata.permissions().mode() & PERMISSIONS
    };
    #[cfg(not(unix))]
    let allowed = PERMISSIONS;
    let (file, path) = draft::named(folder.path(), Readers::Owner)?.into_parts();
    Ok((file, (path, folder), allowed))
}

fn link(file: &File, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, linkat};
        let flags = AtFlags::SYMLINK_FOLLOW;
        Ok(linkat(CWD, path_of(file), CWD, to, flags)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, to);
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))
}

/// Returns the permissions of a file as far as they are `allowed`.
fn permissions(permitted: Permitted, file: &File, allowed: u32) -> io::Result<Permissions> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = file;
        Ok(Permissions::from_mode(match permitted {
            Permitted::Mode(mode) => mode & allowed,
            Permitted::To(Readers::Usual) => 0o666 & allowed,
            Permitted::To(Readers::Owner) => 0o600,
        }))
    }
    #[cfg(not(unix))]
    {
        let _ = (permitted, allowed);
        // Here a read-only file cannot be written while it is open.
        let mut permissions = file.metadata()?.permissions();
        #[allow(clippy::permissions_set_readonly_false)]
        permissions.set_readonly(false);
        Ok(permissions)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use super::*;

    /// Publishes a file through a hidden name, as on systems without unnamed files.
    fn publish(
        (folder, below): (&Path, usize),
        name: &str,
        options: OutputOptions,
    ) -> io::Result<bool> {
        let path = folder.join(name);
        let there = OutputPath { path, below };
        let (mut file, hidden, _) = named(there.folder().unwrap()).unwrap();
        file.write_all(b"new").unwrap();
        let permissions = fs::metadata(folder)?.permissions();
        super::name(
            file,
            Some(hidden),
            (folder, &folder.join(name)),
            permissions,
            options,
        )
    }

    #[test]
    fn files_with_hidden_names_replace_others_only_if_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sub");
        fs::create_dir(&folder).unwrap();
        let flushes = [Flush::ToDisk, Flush::Replacing, Flush::Later];
        // The user names the folder, or the model does.
        for (below, flush) in [0, 1]
            .into_iter()
            .flat_map(|below| flushes.map(|of| (below, of)))
        {
            let mut options = OutputOptions::default();
            let publish = |name, options| publish((&folder, below), name, options);
            fs::write(folder.join("old"), "old").unwrap();
            (options.replace, options.flush) = (false, flush);
            let error = publish("old", options).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(folder.join("old")).unwrap(), b"old");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
            assert!(!publish("a", options).unwrap());
            options.replace = true;
            assert!(!publish("b", options).unwrap());
            assert!(publish("old", options).unwrap());
            for name in ["a", "b", "old"] {
                assert_eq!(fs::read(folder.join(name)).unwrap(), b"new");
                fs::remove_file(folder.join(name)).unwrap();
            }
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        }
    }

    #[test]
    fn paths_may_be_long() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a".repeat(200)).join("b".repeat(200));
        let path = folder.join("\u{e9}".repeat(100));
        let output = create_file(&path, 0, false).unwrap();
        output.write_all_at(b"model", 0).unwrap();
        let usual = Permitted::To(Readers::Usual);
        output.publish(usual, OutputOptions::default()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"model");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_for_whom_it_is_permitted() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let metadata = fs::metadata(dir.path().join(name)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        let write = |name: &str, permitted: Permitted| {
            let output = create_file(&dir.path().join(name), 0, false).unwrap();
            output.publish(permitted, OutputOptions::default()).unwrap();
            mode(name)
        };
        fs::write(dir.path().join("usual"), "").unwrap();
        assert_eq!(write("new", Permitted::To(Readers::Usual)), mode("usual"));
        assert_eq!(write("own", Permitted::OWNER), 0o600);
        let path = dir.path().join("usual");
        fs::set_permissions(&path, Permissions::from_mode(0o4640)).unwrap();
        let like = fs::metadata(&path).unwrap();
        assert_eq!(write("like", Permitted::like(&like)) & !0o640, 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stream_gets_nothing_before_it_is_published() {
        use std::io::Read as _;

        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for published in [true, false] {
            let reader = pipe.clone();
            let reader = std::thread::spawn(move || {
                let mut read = Vec::new();
                File::open(reader).unwrap().read_to_end(&mut read).unwrap();
                read
            });
            let output = create_file(&pipe, 0, false).unwrap();
            output.write_all_at(b"end", 6).unwrap();
            output.write_all_at(b"begin ", 0).unwrap();
            if published {
                output
                    .publish(Permitted::OWNER, OutputOptions::default())
                    .unwrap();
            } else {
                drop(output);
            }
            let expected: &[u8] = if published { b"begin end" } else { b"" };
            assert_eq!(reader.join().unwrap(), expected);
        }
        assert_eq!(There::at(&pipe).unwrap(), There::Stream);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn ext4_gives_a_file_its_blocks_and_its_length() {
        use std::os::unix::fs::MetadataExt;

        let dir = tempfile::tempdir().unwrap();
        let output = create_file(&dir.path().join("new"), 0, false).unwrap();
        let (_, file) = output.file().unwrap();
        let is_ext4 = rustix::fs::fstatfs(file).unwrap().f_type == 0xEF53;
        let len = 100_000;
        output.reserve(len);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), if is_ext4 { len } else { 0 });
        assert_eq!(metadata.blocks() * 512 >= len, is_ext4);
        // More than any disk has: nothing is said, and the file is written nevertheless.
        output.reserve(1 << 62);
        output.write_all_at(b"bytes", 0).unwrap();
    }
}
