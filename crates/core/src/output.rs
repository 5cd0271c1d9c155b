//! Files and objects that appear whole or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io as io_error};
use crate::outputs::OutputOptions;
use crate::protected::folder_of;
#[cfg(feature = "object-store")]
use crate::{remote::Object, upload::Upload};

/// A file or an object that is being written and cannot be seen yet.
#[derive(Debug)]
pub(crate) enum Output {
    File(NewFile),
    #[cfg(feature = "object-store")]
    Object(Upload),
}

/// What came to be of an [`Output`].
pub(crate) enum Published {
    File(PathBuf),
    #[cfg(feature = "object-store")]
    Object(Object),
}

/// A file that is being written and has no name yet.
///
/// On Linux it is an unnamed file (`O_TMPFILE`), so that nothing is left behind however the process
/// ends, but for the moment in which it takes the place of another file: it then has a hidden name,
/// whole, before it is renamed. Where the system or the file system has no unnamed files, a hidden
/// file beside the output that is removed on failure. Until it is published, nobody but its owner
/// may read it.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    folder: PathBuf,
    draft: Draft,
    made: MadeFolders,
}

#[derive(Debug)]
enum Draft {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Named(tempfile::NamedTempFile),
}

impl Output {
    /// Begins the file that will stand at `path`.
    ///
    /// # Errors
    /// [`Error::OutputExists`] unless `replace`.
    pub(crate) fn create_file(path: &Path, replace: bool) -> Result<Output> {
        NewFile::create(path, replace).map(Output::File)
    }

    /// The file, unless it is an object.
    #[cfg(feature = "protect")]
    pub(crate) fn file(&self) -> Option<&File> {
        match self {
            Output::File(new) => Some(new.file()),
            #[cfg(feature = "object-store")]
            Output::Object(_) => None,
        }
    }

    /// Whether writing waits for a network rather than for a disk.
    pub(crate) fn is_remote(&self) -> bool {
        !matches!(self, Output::File(_))
    }

    /// Writes `bytes` at `offset`; none may be written twice.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        match self {
            Output::File(new) => {
                write_all_at(new.file(), bytes, offset).map_err(io_error("write", &new.path))
            }
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.write_all_at(bytes, offset),
        }
    }

    /// Makes a file `len` bytes long, if it is longer.
    #[cfg(feature = "protect")]
    pub(crate) fn truncate(&self, len: u64) -> Result<()> {
        match self {
            Output::File(new) => new
                .file()
                .set_len(len)
                .map_err(io_error("write", &new.path)),
            #[cfg(feature = "object-store")]
            Output::Object(_) => Ok(()),
        }
    }

    /// Puts everything written so far on the disk, if `sync`, or in the store.
    pub(crate) fn finish(&self, sync: bool) -> Result<()> {
        match self {
            Output::File(new) if sync => {
                new.file().sync_all().map_err(io_error("write", &new.path))
            }
            Output::File(_) => Ok(()),
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.finish(),
        }
    }

    /// Gives a file the permissions of `like` (without, its owner alone may read it), and its name,
    /// replacing what stands there if `options` say so. On failure there is no such name, or it
    /// names what it did before.
    pub(crate) fn publish(
        self,
        like: Option<&Metadata>,
        options: OutputOptions,
    ) -> Result<Published> {
        match self {
            Output::File(new) => new.publish(like, options).map(Published::File),
            #[cfg(feature = "object-store")]
            Output::Object(upload) => upload.publish(options.replace).map(Published::Object),
        }
    }

    /// Takes over who owns `like`, where we may.
    #[cfg(feature = "protect")]
    pub(crate) fn try_chown(&self, like: &Metadata) {
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
    pub(crate) fn remove(self) {
        match self {
            Published::File(path) => drop(fs::remove_file(path)),
            #[cfg(feature = "object-store")]
            Published::Object(object) => object.remove(),
        }
    }
}

impl NewFile {
    fn create(path: &Path, replace: bool) -> Result<NewFile> {
        if !replace && fs::symlink_metadata(path).is_ok() {
            let path = path.to_owned();
            return Err(Error::OutputExists { path });
        }
        let folder = folder_of(path).to_owned();
        let made = MadeFolders::make(&folder).map_err(io_error("create folder", &folder))?;
        let draft = Draft::create(&folder).map_err(io_error("create a file in", &folder))?;
        Ok(NewFile {
            path: path.to_owned(),
            folder,
            draft,
            made,
        })
    }

    fn file(&self) -> &File {
        self.draft.file()
    }

    fn publish(self, like: Option<&Metadata>, options: OutputOptions) -> Result<PathBuf> {
        let NewFile {
            path,
            folder,
            draft,
            made,
        } = self;
        let permitted = match like {
            Some(like) => draft.file().set_permissions(writable_by_us(like)),
            None => Ok(()),
        };
        let published = permitted.and_then(|()| match draft {
            #[cfg(target_os = "linux")]
            Draft::Unnamed(file) => link(&file, &folder, &path, options.replace),
            Draft::Named(file) if options.replace => {
                file.persist(&path).map(drop).map_err(|e| e.error)
            }
            Draft::Named(file) => file.persist_noclobber(&path).map(drop).map_err(|e| e.error),
        });
        published.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::OutputExists { path: path.clone() },
            _ => io_error("create", &path)(error),
        })?;
        if options.sync {
            sync_folder(&folder);
            made.0
                .iter()
                .for_each(|folder| sync_folder(folder_of(folder)));
        }
        made.keep();
        Ok(path)
    }
}

/// Folders made for an output, the innermost first; dropped, they are gone if they are empty.
#[derive(Debug)]
struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    fn make(folder: &Path) -> io::Result<MadeFolders> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = folder.ancestors().take_while(missing);
        let made = MadeFolders(made.map(Path::to_owned).collect());
        fs::create_dir_all(folder)?;
        Ok(made)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Draft {
    #[cfg(target_os = "linux")]
    fn create(folder: &Path) -> io::Result<Draft> {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        use rustix::io::Errno;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Draft::Unnamed(File::from(file))),
            // What file systems and kernels say that know no unnamed files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                Draft::named(folder)
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn create(folder: &Path) -> io::Result<Draft> {
        Draft::named(folder)
    }

    fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Draft::Unnamed(file) => file,
            Draft::Named(file) => file.as_file(),
        }
    }

    fn named(folder: &Path) -> io::Result<Draft> {
        let file = tempfile::Builder::new()
            .prefix(".onnxseal-")
            .tempfile_in(folder)?;
        Ok(Draft::Named(file))
    }
}

/// Names an unnamed file.
#[cfg(target_os = "linux")]
fn link(file: &File, folder: &Path, path: &Path, replace: bool) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |to: &Path| linkat(CWD, &unnamed, CWD, to, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(rustix::io::Errno::EXIST) if replace => {
            // A name cannot be linked over another, only renamed.
            let between = tempfile::Builder::new()
                .prefix(".onnxseal-")
                .make_in(folder, |to| link(to).map_err(io::Error::from))?;
            between.persist(path).map_err(|error| error.error)
        }
        linked => linked.map_err(io::Error::from),
    }
}

#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
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

/// Puts the names in a folder on the disk, where the system can: then a power loss does not take
/// them back. Whether it can or not, each file is whole or absent.
pub(crate) fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

/// A read-only input gives a read-only output only on systems where an open file can still be
/// written; elsewhere the output stays writable.
fn writable_by_us(like: &Metadata) -> Permissions {
    #[cfg(windows)]
    {
        let mut permissions = like.permissions();
        #[allow(clippy::permissions_set_readonly_false)]
        permissions.set_readonly(false);
        permissions
    }
    #[cfg(not(windows))]
    like.permissions()
}
