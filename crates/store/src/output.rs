//! Files and objects that appear whole or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::path::Path;

use crate::draft;
use crate::error::{Error, Result, io as io_error};
use crate::folder::{MadeFolders, OutputPath, sync_folder};
#[cfg(not(feature = "object-store"))]
use crate::input::unreachable_object;
use crate::location::{Location, folder_of};
use crate::no_links::Folder;
#[cfg(feature = "object-store")]
use crate::object::{remote::Object, upload::Upload};
use crate::permitted::{Permitted, Readers};
use crate::stamp::Stamp;
use crate::stream::{Stream, There};

/// How outputs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputOptions {
    /// Whether an existing file may be replaced; never several at once.
    pub replace: bool,
    /// Whether to wait until the output is on the disk before it gets its name.
    pub flush: Flush,
}

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

/// Whether a call waits until its result is on the disk. Object stores ignore this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// Waits. A power loss after the call loses nothing.
    ToDisk,
    /// Waits if it replaces a file or changes one in place: after a power loss, either the old file
    /// or the new one exists, whole. Does not wait for a new file, which takes about half the time.
    /// A power loss within the next minute or so may leave the new file incomplete, empty or
    /// missing; its source still exists.
    #[default]
    Replacing,
    /// Does not wait. A power loss soon after may leave a new file incomplete, and lose both the
    /// old file and the new one that replaced it.
    Later,
}

impl Flush {
    /// Returns whether to wait for a file that replaces another.
    pub fn waits_to_replace(self) -> bool {
        self != Flush::Later
    }

    fn waits_for(self, named: Named) -> bool {
        match self {
            Flush::ToDisk => true,
            Flush::Replacing => named == Named::InPlaceOfAnother,
            Flush::Later => false,
        }
    }
}

impl Default for OutputOptions {
    /// Returns options that replace nothing and do not wait for the disk.
    fn default() -> OutputOptions {
        OutputOptions {
            replace: false,
            flush: Flush::default(),
        }
    }
}

/// A file or an object that is being written and is still invisible.
#[derive(Debug)]
pub enum Output {
    /// A file without a name, or with a hidden one.
    File(NewFile),
    /// Bytes for a pipe, a device or standard output.
    Stream(Stream),
    /// An object in parts.
    #[cfg(feature = "object-store")]
    Object(Upload),
}

/// A published [`Output`].
pub enum Published {
    /// A file.
    File(OutputPath),
    /// Bytes that cannot be taken back.
    Stream,
    /// An object.
    #[cfg(feature = "object-store")]
    Object(Object),
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
#[derive(Debug)]
pub struct NewFile {
    place: OutputPath,
    draft: Draft,
    /// The permissions that it may get, as bits of the mode.
    allowed: u32,
    made: MadeFolders,
}

/// All permission bits, without setuid, setgid and sticky.
const PERMISSIONS: u32 = 0o777;

#[derive(Debug)]
enum Draft {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// A named file, with its open folder, through which its hidden name is reached.
    Named(tempfile::NamedTempFile, Folder),
}

impl Output {
    /// Begins a file or an object of about `len` bytes.
    ///
    /// # Errors
    /// [`Error::OutputExists`] unless `replace`; [`Error::Location`] for memory.
    pub fn create(location: &Location, replace: bool, len: u64) -> Result<Output> {
        match location {
            Location::File(path) => Output::create_file(path, replace),
            Location::Memory(_) => Err(location.not_an_output()),
            #[cfg(feature = "object-store")]
            Location::Object(url) => {
                Upload::create(Object::at(url)?, replace, len).map(Output::Object)
            }
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => {
                let _ = len;
                Err(unreachable_object(location))
            }
        }
    }

    /// Begins the file for `path`, or the bytes for the stream there.
    ///
    /// # Errors
    /// [`Error::OutputExists`] unless `replace`, and [`Error::NoOutput`].
    pub fn create_file(path: &Path, replace: bool) -> Result<Output> {
        Output::create_below(path, 0, replace)
    }

    /// Begins a file as [`create_file`](Output::create_file) does, if a model named the last
    /// `below` folders above it: none of them may be a link.
    ///
    /// # Errors
    /// `Usage` if one is a link; [`Error::OutputExists`] unless `replace`; [`Error::NoOutput`].
    pub fn create_below(path: &Path, below: usize, replace: bool) -> Result<Output> {
        if check_file(path, replace)? == There::Stream {
            return Stream::create(path, replace).map(Output::Stream);
        }
        let path = path.to_owned();
        NewFile::create(OutputPath { path, below }).map(Output::File)
    }

    /// Returns the file, or `None` for an object.
    pub fn file(&self) -> Option<&File> {
        match self {
            Output::File(new) => Some(new.file()),
            Output::Stream(stream) => Some(stream.held()),
            #[cfg(feature = "object-store")]
            Output::Object(_) => None,
        }
    }

    /// Returns whether writing waits for a network rather than for a disk.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Output::File(_) | Output::Stream(_))
    }

    /// Writes `bytes` at `offset`. Write each byte once.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        match self {
            Output::File(new) => {
                write_all_at(new.file(), bytes, offset).map_err(io_error("write", new.path()))
            }
            Output::Stream(to) => {
                write_all_at(to.held(), bytes, offset).map_err(io_error("write", to.path()))
            }
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.write_all_at(bytes, offset),
        }
    }

    /// Cuts a file to `len` bytes, if it is longer.
    pub fn truncate(&self, len: u64) -> Result<()> {
        match self {
            Output::File(new) => new
                .file()
                .set_len(len)
                .map_err(io_error("write", new.path())),
            Output::Stream(to) => {
                let cut = to.held().set_len(len);
                cut.map_err(io_error("write", to.path()))
            }
            #[cfg(feature = "object-store")]
            Output::Object(_) => Ok(()),
        }
    }

    /// Returns a stamp of the complete file, which later tells without reading it whether it was
    /// changed. Returns `None` for a stream or an object, and if the system has no such mark.
    pub fn stamp(&self) -> Result<Option<Stamp>> {
        match self {
            Output::File(new) => {
                let metadata = new.file().metadata();
                let metadata = metadata.map_err(io_error("read", new.path()))?;
                Ok(Stamp::of(&metadata).map(Stamp::before_naming))
            }
            Output::Stream(_) => Ok(None),
            #[cfg(feature = "object-store")]
            Output::Object(_) => Ok(None),
        }
    }

    /// Sends everything written so far to the disk, if `flush` says so, or to the store.
    pub fn finish(&self, flush: Flush) -> Result<()> {
        match self {
            Output::File(new) if flush == Flush::ToDisk => {
                new.file().sync_all().map_err(io_error("write", new.path()))
            }
            // Only naming it tells whether it replaces a file.
            Output::File(_) | Output::Stream(_) => Ok(()),
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.finish(),
        }
    }

    /// Gives a file its permissions and its name. If `options` allow, it replaces an existing file, and
    /// syncs first unless they say not to wait. On failure the name does not exist, or names the file
    /// that it named before.
    pub fn publish(self, permitted: Permitted, options: OutputOptions) -> Result<Published> {
        match self {
            Output::File(new) => new.publish(permitted, options).map(Published::File),
            Output::Stream(stream) => stream.publish().map(|()| Published::Stream),
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.publish(options.replace).map(Published::Object),
        }
    }

    /// Gives the file the owner of `like`, if permitted, and once published its permissions
    /// whatever the umask, because it replaces that file.
    pub fn take_place_of(&mut self, like: &Metadata) {
        match self {
            Output::File(new) => new.allowed = PERMISSIONS,
            Output::Stream(_) => return,
            #[cfg(feature = "object-store")]
            Output::Object(_) => {}
        }
        #[cfg(unix)]
        if let Some(file) = self.file() {
            use std::os::unix::fs::{MetadataExt, fchown};
            let _ = fchown(file, Some(like.uid()), Some(like.gid()));
        }
        #[cfg(not(unix))]
        let _ = like;
    }
}

impl Published {
    /// Removes it again, if possible.
    pub fn remove(self) {
        match self {
            Published::File(place) => drop(place.remove()),
            Published::Stream => {}
            #[cfg(feature = "object-store")]
            Published::Object(object) => object.remove(),
        }
    }
}

/// Returns what exists at the path of a new file, and refuses a file there unless `replace`.
fn check_file(path: &Path, replace: bool) -> Result<There> {
    match There::at(path)? {
        There::File if !replace => Err(Error::OutputExists {
            path: path.to_owned(),
        }),
        there => Ok(there),
    }
}

impl NewFile {
    fn create(place: OutputPath) -> Result<NewFile> {
        let (folder, made) = place.make_folder()?;
        let fault = io_error("create a file in", folder_of(&place.path));
        let (draft, allowed) = Draft::create(folder).map_err(fault)?;
        Ok(NewFile {
            place,
            draft,
            allowed,
            made,
        })
    }

    fn path(&self) -> &Path {
        &self.place.path
    }

    fn file(&self) -> &File {
        self.draft.file()
    }

    fn publish(self, permitted: Permitted, options: OutputOptions) -> Result<OutputPath> {
        let NewFile {
            place,
            draft,
            allowed,
            made,
        } = self;
        if options.replace {
            // The path may lead to something else by now.
            check_file(&place.path, true)?;
        }
        let permitted = permissions(permitted, draft.file(), allowed);
        // The folder was closed, since a model may have thousands of files.
        let folder = place.folder()?;
        let to = place.within(&folder);
        let published = permitted
            .and_then(|permissions| draft.publish(folder.path(), &to, permissions, options));
        let named = published.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::OutputExists {
                path: place.path.clone(),
            },
            _ => io_error("create", &place.path)(error),
        })?;
        let sync = options.flush.waits_for(named);
        if sync {
            sync_folder(folder.path());
        }
        made.keep(sync);
        Ok(place)
    }
}

/// How a file got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// No file had that name.
    New,
    /// It replaced another file.
    InPlaceOfAnother,
}

impl Draft {
    #[cfg(target_os = "linux")]
    fn create(folder: Folder) -> io::Result<(Draft, u32)> {
        use std::os::unix::fs::PermissionsExt;

        use rustix::fs::{CWD, Mode, OFlags, openat};
        use rustix::io::Errno;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Learn all permissions of a new file here, then restrict it to its owner before it has
        // bytes.
        match openat(CWD, folder.path(), flags, Mode::from_raw_mode(PERMISSIONS)) {
            // Without `/proc` it could not get its name.
            Ok(file) if fs::symlink_metadata(unnamed(&file)).is_err() => Draft::named(folder),
            Ok(file) => {
                let file = File::from(file);
                let allowed = file.metadata()?.permissions().mode() & PERMISSIONS;
                file.set_permissions(Permissions::from_mode(0o600))?;
                draft::sweep(folder.path());
                // Before it has even its short-lived hidden name.
                draft::hold(&file);
                Ok((Draft::Unnamed(file), allowed))
            }
            // The answers of file systems and kernels without unnamed files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                Draft::named(folder)
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn create(folder: Folder) -> io::Result<(Draft, u32)> {
        Draft::named(folder)
    }

    fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Draft::Unnamed(file) => file,
            Draft::Named(file, _) => file.as_file(),
        }
    }

    /// Gives the file the name `to` in `folder`, and its permissions. As long as it has a hidden
    /// name, with which a killed process leaves it behind, only its owner may read it.
    fn publish(
        self,
        folder: &Path,
        to: &Path,
        permissions: Permissions,
        options: OutputOptions,
    ) -> io::Result<Named> {
        // Sync before the new file replaces the old one.
        let prepare = |file: &File| match options.flush {
            Flush::Replacing => file.sync_all(),
            // Synced already, or told not to wait.
            Flush::ToDisk | Flush::Later => Ok(()),
        };
        // It has replaced another file by then. If that fails, its owner alone may read it.
        let permit = |file: &File, named: Named| {
            let permitted = file.set_permissions(permissions.clone());
            if permitted.is_ok() && options.flush.waits_for(named) {
                let _ = file.sync_all();
            }
            Ok(named)
        };
        match self {
            #[cfg(target_os = "linux")]
            Draft::Unnamed(file) => {
                let own = file.metadata()?.permissions();
                file.set_permissions(permissions.clone())?;
                match link(&file, to) {
                    Err(error)
                        if options.replace && error.kind() == io::ErrorKind::AlreadyExists =>
                    {
                        file.set_permissions(own)?;
                        prepare(&file)?;
                        // Linking cannot replace a name; only renaming can.
                        let between = draft::builder().make_in(folder, |to| link(&file, to))?;
                        between.persist(to).map_err(|error| error.error)?;
                        permit(&file, Named::InPlaceOfAnother)
                    }
                    linked => linked.map(|()| Named::New),
                }
            }
            // Some file systems can rename over a name, but lack a rename that refuses to.
            Draft::Named(file, _folder) if options.replace => {
                let named = if fs::symlink_metadata(to).is_ok() {
                    Named::InPlaceOfAnother
                } else {
                    Named::New
                };
                if named == Named::InPlaceOfAnother {
                    prepare(file.as_file())?;
                }
                permit(&file.persist(to).map_err(|error| error.error)?, named)
            }
            Draft::Named(file, _) => {
                let named = file.persist_noclobber(to).map_err(|error| error.error)?;
                permit(&named, Named::New)
            }
        }
    }

    fn named(folder: Folder) -> io::Result<(Draft, u32)> {
        #[cfg(unix)]
        let allowed = {
            // A process that opened this file while its permissions were wide could keep reading
            // it. So ask a second file for the permissions, and restrict this one to its owner from
            // the start.
            use std::os::unix::fs::PermissionsExt;
            let mut probe = draft::builder();
            let probe = probe.permissions(Permissions::from_mode(PERMISSIONS));
            let metadata = probe.tempfile_in(folder.path())?.as_file().metadata()?;
            metadata.permissions().mode() & PERMISSIONS
        };
        #[cfg(not(unix))]
        let allowed = PERMISSIONS;
        let file = draft::named(folder.path(), Readers::Owner)?;
        Ok((Draft::Named(file, folder), allowed))
    }
}

/// Names an unnamed file.
#[cfg(target_os = "linux")]
fn link(file: &File, to: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(
        CWD,
        unnamed(file),
        CWD,
        to,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// Returns the path of an unnamed file, by which it is named.
#[cfg(target_os = "linux")]
fn unnamed(file: &impl std::os::fd::AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Writes all of `bytes` at `offset`, without using the file's position.
#[cfg(unix)]
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`, without using the file's position.
#[cfg(windows)]
pub fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Returns the permissions of a file as far as they are `allowed`.
#[cfg(unix)]
fn permissions(permitted: Permitted, _file: &File, allowed: u32) -> io::Result<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Ok(Permissions::from_mode(match permitted {
        Permitted::Mode(mode) => mode & allowed,
        Permitted::To(Readers::Usual) => 0o666 & allowed,
        Permitted::To(Readers::Owner) => 0o600,
    }))
}

/// Returns the permissions of the file, made writable: here a read-only file cannot be written
/// while it is open.
#[cfg(not(unix))]
fn permissions(_: Permitted, file: &File, _allowed: u32) -> io::Result<Permissions> {
    let mut permissions = file.metadata()?.permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    Ok(permissions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use super::*;

    /// Publishes a file through a hidden name, as on systems without unnamed files.
    fn publish(folder: &Path, name: &str, options: OutputOptions) -> io::Result<Named> {
        let there = OutputPath {
            path: folder.join(name),
            below: 0,
        };
        let (draft, _) = Draft::named(there.folder().unwrap()).unwrap();
        draft.file().write_all(b"new").unwrap();
        let permissions = fs::metadata(folder)?.permissions();
        draft.publish(folder, &folder.join(name), permissions, options)
    }

    #[test]
    fn files_with_hidden_names_replace_others_only_if_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = OutputOptions::default();
        for flush in [Flush::ToDisk, Flush::Replacing, Flush::Later] {
            fs::write(dir.path().join("old"), "old").unwrap();
            (options.replace, options.flush) = (false, flush);
            let error = publish(dir.path(), "old", options).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(dir.path().join("old")).unwrap(), b"old");
            assert_eq!(publish(dir.path(), "a", options).unwrap(), Named::New);
            options.replace = true;
            assert_eq!(publish(dir.path(), "b", options).unwrap(), Named::New);
            let named = publish(dir.path(), "old", options).unwrap();
            assert_eq!(named, Named::InPlaceOfAnother);
            for name in ["a", "b", "old"] {
                assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"new");
                fs::remove_file(dir.path().join(name)).unwrap();
            }
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
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
            let output = Output::create_file(&dir.path().join(name), false).unwrap();
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
}
