//! Files and objects that appear whole or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::path::Path;

use crate::draft;
use crate::error::{Error, Result, io as io_error};
use crate::folder::{Folder, MadeFolders, OutputPath};
#[cfg(not(feature = "object-store"))]
use crate::input::unreachable_object;
use crate::location::{Location, folder_of};
#[cfg(feature = "object-store")]
use crate::object::{remote::Object, upload::Upload};
use crate::permitted::{Permitted, Readers};
use crate::stamp::Stamp;
use crate::stream::{Stream, There};

/// How outputs come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputOptions {
    /// Whether an existing file may be replaced; never several at once.
    pub replace: bool,
    /// Whether to wait until the output is on the disk before it gets its name.
    pub flush: Flush,
}

impl OutputOptions {
    /// Refuses `output` if a file is in the way. Outputs are refused again when they get their names; this is for callers that
    /// work long before.
    ///
    /// # Errors
    /// [`Error::OutputExists`], and [`Error::NoOutput`].
    pub fn check_free(&self, output: &Location) -> Result<()> {
        match output {
            Location::File(path) => check_file(path, self.replace).map(drop),
            _ => Ok(()),
        }
    }
}

/// Whether a call waits until its result is on the disk. Of no meaning to object stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// It waits. A power loss after the call takes nothing.
    ToDisk,
    /// It waits where it replaces a file, or changes one in place: after a power loss the old file or the
    /// new one is there, whole. It does not wait for a new file, which takes about half the time. A power
    /// loss within the next minute or so may leave the new file in part, empty or not at all; what it was
    /// made of is still there.
    #[default]
    Replacing,
    /// It does not wait. A power loss soon after may leave a new file in part, and neither the old file
    /// nor the new one where it replaced one.
    Later,
}

impl Flush {
    /// Whether to wait for what takes the place of something.
    pub fn waits_to_replace(self) -> bool {
        self != Flush::Later
    }
}

impl Default for OutputOptions {
    /// Replaces nothing, and does not wait for the disk.
    fn default() -> OutputOptions {
        OutputOptions {
            replace: false,
            flush: Flush::default(),
        }
    }
}

/// A file or an object that is being written and cannot be seen yet.
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

/// What came to be of an [`Output`].
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
/// On Linux it is an unnamed file (`O_TMPFILE`), so that nothing is left behind however the process
/// ends, but for the moment in which it takes the place of another file: it then has a hidden name,
/// whole, before it is renamed. Where the system or the file system has no unnamed files, a hidden
/// file beside the output that is removed on failure, and if the process is killed, by the next one
/// that writes there (see [`draft`]). Until it is published, nobody but its owner may read it. Then it has the permissions of its input, as far as the process's umask allows them
/// to a new file in that folder, and never the bits setuid, setgid and sticky.
#[derive(Debug)]
pub struct NewFile {
    place: OutputPath,
    draft: Draft,
    /// What it may be permitted, as bits of the mode.
    allowed: u32,
    made: MadeFolders,
}

/// All that can be permitted: neither setuid nor setgid nor sticky.
const PERMISSIONS: u32 = 0o777;

#[derive(Debug)]
enum Draft {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// What reaches its hidden name is its folder, open.
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

    /// Begins the file that will stand at `path`, or the bytes for the stream there.
    ///
    /// # Errors
    /// [`Error::OutputExists`] unless `replace`, and [`Error::NoOutput`].
    pub fn create_file(path: &Path, replace: bool) -> Result<Output> {
        Output::create_below(path, 0, replace)
    }

    /// The same, where a model has named the last `below` folders above it: none of them may be a link.
    ///
    /// # Errors
    /// `Usage` where one is, and [`Error::OutputExists`] unless `replace`; [`Error::NoOutput`].
    pub fn create_below(path: &Path, below: usize, replace: bool) -> Result<Output> {
        if check_file(path, replace)? == There::Stream {
            return Stream::create(path, replace).map(Output::Stream);
        }
        let path = path.to_owned();
        NewFile::create(OutputPath { path, below }).map(Output::File)
    }

    /// The file, unless it is an object.
    pub fn file(&self) -> Option<&File> {
        match self {
            Output::File(new) => Some(new.file()),
            Output::Stream(stream) => Some(stream.held()),
            #[cfg(feature = "object-store")]
            Output::Object(_) => None,
        }
    }

    /// Whether writing waits for a network rather than for a disk.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Output::File(_) | Output::Stream(_))
    }

    /// Writes `bytes` at `offset`; none may be written twice.
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

    /// Makes a file `len` bytes long, if it is longer.
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

    /// What will tell, without reading it, whether the file is another by then, once all of it is written;
    /// `None` where nothing does, and for a stream or an object.
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

    /// Puts everything written so far on the disk, if `flush` says so, or in the store.
    pub fn finish(&self, flush: Flush) -> Result<()> {
        match self {
            Output::File(new) if flush == Flush::ToDisk => {
                new.file().sync_all().map_err(io_error("write", new.path()))
            }
            // Whether it replaces a file is known once it gets its name.
            Output::File(_) | Output::Stream(_) => Ok(()),
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.finish(),
        }
    }

    /// Gives a file its permissions and its name, replacing what stands there if `options` say so: then
    /// it is put on the disk first, unless they say not to wait. On failure there is no such name, or it
    /// names what it did before.
    pub fn publish(self, permitted: Permitted, options: OutputOptions) -> Result<Published> {
        match self {
            Output::File(new) => new.publish(permitted, options).map(Published::File),
            Output::Stream(stream) => stream.publish().map(|()| Published::Stream),
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.publish(options.replace).map(Published::Object),
        }
    }

    /// Takes over who owns `like`, where we may, and, once published, its permissions whatever the
    /// umask: it takes the place of that file.
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
    /// Removes it again, where that can be done.
    pub fn remove(self) {
        match self {
            Published::File(place) => drop(place.remove()),
            Published::Stream => {}
            #[cfg(feature = "object-store")]
            Published::Object(object) => object.remove(),
        }
    }
}

/// Looks at the place of a new file, and refuses a file there unless `replace`.
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
            // It may have become something else meanwhile.
            check_file(&place.path, true)?;
        }
        let permitted = permissions(permitted, draft.file(), allowed)
            .and_then(|permissions| draft.file().set_permissions(permissions));
        // It was closed: a model may have thousands of files.
        let folder = place.folder()?;
        let to = place.within(&folder);
        let published = permitted.and_then(|()| draft.publish(folder.path(), &to, options));
        let named = published.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::OutputExists {
                path: place.path.clone(),
            },
            _ => io_error("create", &place.path)(error),
        })?;
        let sync = match options.flush {
            Flush::ToDisk => true,
            Flush::Replacing => named == Named::InPlaceOfAnother,
            Flush::Later => false,
        };
        if sync {
            folder.sync();
        }
        made.keep(sync);
        Ok(place)
    }
}

/// How a file got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// There was none of that name.
    New,
    /// It took the place of another.
    InPlaceOfAnother,
}

impl Draft {
    #[cfg(target_os = "linux")]
    fn create(folder: Folder) -> io::Result<(Draft, u32)> {
        use std::os::unix::fs::PermissionsExt;

        use rustix::fs::{CWD, Mode, OFlags, openat};
        use rustix::io::Errno;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // All that a new file may be permitted here; before it has bytes it is its owner's alone.
        match openat(CWD, folder.path(), flags, Mode::from_raw_mode(PERMISSIONS)) {
            Ok(file) => {
                let file = File::from(file);
                let allowed = file.metadata()?.permissions().mode() & PERMISSIONS;
                file.set_permissions(Permissions::from_mode(0o600))?;
                draft::sweep(folder.path());
                // Before it has a name, if only for the moment before it is renamed.
                draft::hold(&file);
                Ok((Draft::Unnamed(file), allowed))
            }
            // What file systems and kernels say that know no unnamed files.
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

    /// Names the file `to`, which lies in `folder`.
    fn publish(self, folder: &Path, to: &Path, options: OutputOptions) -> io::Result<Named> {
        // Nobody finds the new file where the old one was before it is on the disk.
        let prepare = |file: &File| match options.flush {
            Flush::Replacing => file.sync_all(),
            // It is there already, or nobody is to wait.
            Flush::ToDisk | Flush::Later => Ok(()),
        };
        match self {
            #[cfg(target_os = "linux")]
            Draft::Unnamed(file) => match link(&file, to) {
                Err(error) if options.replace && error.kind() == io::ErrorKind::AlreadyExists => {
                    prepare(&file)?;
                    // A name cannot be linked over another, only renamed.
                    let between = draft::builder().make_in(folder, |to| link(&file, to))?;
                    between.persist(to).map_err(|error| error.error)?;
                    Ok(Named::InPlaceOfAnother)
                }
                linked => linked.map(|()| Named::New),
            },
            // Some file systems can rename over a name, but not keep from doing so.
            Draft::Named(file, _folder) if options.replace => {
                let named = if fs::symlink_metadata(to).is_ok() {
                    Named::InPlaceOfAnother
                } else {
                    Named::New
                };
                if named == Named::InPlaceOfAnother {
                    prepare(file.as_file())?;
                }
                file.persist(to).map_err(|error| error.error)?;
                Ok(named)
            }
            Draft::Named(file, _) => {
                file.persist_noclobber(to).map_err(|error| error.error)?;
                Ok(Named::New)
            }
        }
    }

    fn named(folder: Folder) -> io::Result<(Draft, u32)> {
        #[cfg(unix)]
        let allowed = {
            // Whoever opens a file while it has a name keeps it open: so another one is asked, and
            // this is its owner's from the beginning.
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
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, &unnamed, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
}

/// Writes all of `bytes` at `offset`, wherever the file is being read.
///
/// # Errors
/// What the system says.
#[cfg(unix)]
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`, wherever the file is being read.
///
/// # Errors
/// What the system says.
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

/// The permissions of a file as far as they are `allowed`.
#[cfg(unix)]
fn permissions(permitted: Permitted, _file: &File, allowed: u32) -> io::Result<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Ok(Permissions::from_mode(match permitted {
        Permitted::Mode(mode) => mode & allowed,
        Permitted::To(Readers::Usual) => 0o666 & allowed,
        Permitted::To(Readers::Owner) => 0o600,
    }))
}

/// Where an open file that is read-only cannot be written, the output of a read-only input can be.
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

    /// Gives `name` in `folder` a file that has had a hidden name, as where there are no unnamed files.
    fn publish(folder: &Path, name: &str, options: OutputOptions) -> io::Result<Named> {
        let there = OutputPath {
            path: folder.join(name),
            below: 0,
        };
        let (draft, _) = Draft::named(there.folder().unwrap()).unwrap();
        draft.file().write_all(b"new").unwrap();
        draft.publish(folder, &folder.join(name), options)
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
