//! Calls to Windows that the standard library lacks. This module has `unsafe` code.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;
use std::ptr::{self, null, null_mut};

use windows_sys::Win32::Foundation::{
    ERROR_INVALID_FUNCTION, ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, ERROR_NOT_SUPPORTED,
    ERROR_SUCCESS,
};
use windows_sys::Win32::Security::Authorization::{SE_FILE_OBJECT, SetNamedSecurityInfoW};
use windows_sys::Win32::Security::{
    ACL, ACL_REVISION, AddAccessAllowedAce, DACL_SECURITY_INFORMATION, GetTokenInformation,
    InitializeAcl, InitializeSecurityDescriptor, SE_DACL_PROTECTED, SECURITY_DESCRIPTOR,
    SetFileSecurityW, SetSecurityDescriptorControl, SetSecurityDescriptorDacl, TOKEN_USER,
    TokenUser, UNPROTECTED_DACL_SECURITY_INFORMATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ALL_ACCESS, FILE_ATTRIBUTE_NORMAL, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_ID_INFO, FILE_INFO_BY_HANDLE_CLASS, FileBasicInfo,
    FileIdInfo, GetFileInformationByHandleEx, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY,
    LockFileEx, SetFileAttributesW,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::SystemServices::SECURITY_DESCRIPTOR_REVISION;

/// Returns the volume of a file, and its number there.
pub fn file_id(file: &File) -> io::Result<(u64, u128)> {
    // SAFETY: this class has this type.
    let info: FILE_ID_INFO = unsafe { information(file, FileIdInfo) }?;
    let number = u128::from_le_bytes(info.FileId.Identifier);
    Ok((info.VolumeSerialNumber, number))
}

/// Returns when the file's bytes or attributes last changed, in nanoseconds since 1970.
pub fn changed_ns(file: &File) -> io::Result<i64> {
    /// From 1601 to 1970, in steps of 100 ns.
    const BEFORE: i64 = 116_444_736_000_000_000;
    // SAFETY: this class has this type.
    let info: FILE_BASIC_INFO = unsafe { information(file, FileBasicInfo) }?;
    Ok(info.ChangeTime.saturating_sub(BEFORE).saturating_mul(100))
}

/// Returns information of a file.
///
/// # Safety
/// `T` is the type of `class`, and valid whatever its bits are.
unsafe fn information<T>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut info = MaybeUninit::<T>::zeroed();
    // SAFETY: the call writes a `T` to memory for one.
    let done = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            class,
            info.as_mut_ptr().cast(),
            size_of::<T>() as u32,
        )
    };
    succeeded(done)?;
    // SAFETY: as the caller promises.
    Ok(unsafe { info.assume_init() })
}

/// Opens what lies at `path`, a link or a folder too, to ask about it.
pub fn open_link(path: &Path) -> io::Result<File> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    let mut options = File::options();
    options.access_mode(0).custom_flags(flags).open(path)
}

/// Locks the last byte that a file can have. A lock keeps others from reading and writing what it
/// covers, and files have no byte there. Without `wait`, the error for a file that somebody else
/// locks is `WouldBlock`.
pub fn lock(file: &File, wait: bool) -> io::Result<()> {
    let flags = LOCKFILE_EXCLUSIVE_LOCK | if wait { 0 } else { LOCKFILE_FAIL_IMMEDIATELY };
    let mut at = OVERLAPPED::default();
    at.Anonymous.Anonymous.Offset = u32::MAX - 1;
    at.Anonymous.Anonymous.OffsetHigh = i32::MAX as u32;
    // SAFETY: the file is open and was opened without overlapped calls: this one has ended when it
    // returns.
    let done = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &mut at) };
    succeeded(done).map_err(|error| match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING) => io::ErrorKind::WouldBlock.into(),
        _ => error,
    })
}

/// Lets nobody but this process's user use the file at `path`. Administrators can still take it
/// over.
pub fn restrict_to_user(path: &Path) -> io::Result<()> {
    // The token of this process, for which no handle is opened.
    let token = ptr::without_provenance_mut(-4_isize as usize);
    let mut user = Aligned([0; 32]);
    let mut len = 0;
    let to = user.0.as_mut_ptr();
    // SAFETY: the call writes at most the bytes of `user`, which is aligned for a `TOKEN_USER`.
    let done = unsafe {
        GetTokenInformation(
            token,
            TokenUser,
            to.cast(),
            size_of_val(&user) as u32,
            &mut len,
        )
    };
    succeeded(done)?;
    let path = wide(path);
    let mut list = Aligned([0; 32]);
    let (len, list) = (size_of_val(&list) as u32, list.0.as_mut_ptr().cast());
    let mut rights = SECURITY_DESCRIPTOR::default();
    let rights = (&raw mut rights).cast();
    // SAFETY: the first call wrote a user, and the identifier that it points to behind it. The list
    // has so many bytes, is aligned and has room for one user; the path ends with a zero.
    unsafe {
        let user = (*to.cast::<TOKEN_USER>()).User.Sid;
        succeeded(InitializeAcl(list, len, ACL_REVISION))?;
        succeeded(AddAccessAllowedAce(
            list,
            ACL_REVISION,
            FILE_ALL_ACCESS,
            user,
        ))?;
        succeeded(InitializeSecurityDescriptor(
            rights,
            SECURITY_DESCRIPTOR_REVISION,
        ))?;
        succeeded(SetSecurityDescriptorDacl(rights, 1, list, 0))?;
        // Rights of the folder are not added.
        succeeded(SetSecurityDescriptorControl(
            rights,
            SE_DACL_PROTECTED,
            SE_DACL_PROTECTED,
        ))?;
        where_rights_are(succeeded(SetFileSecurityW(
            path.as_ptr(),
            DACL_SECURITY_INFORMATION,
            rights,
        )))
    }
}

/// Gives the file at `path` the rights that new files get in its folder.
pub fn inherit_rights(path: &Path) -> io::Result<()> {
    let path = wide(path);
    let mut none = ACL::default();
    let what = DACL_SECURITY_INFORMATION | UNPROTECTED_DACL_SECURITY_INFORMATION;
    let keep = null_mut();
    // SAFETY: the list is one without entries; the path ends with a zero.
    let error = unsafe {
        succeeded(InitializeAcl(
            &mut none,
            size_of::<ACL>() as u32,
            ACL_REVISION,
        ))?;
        SetNamedSecurityInfoW(
            path.as_ptr(),
            SE_FILE_OBJECT,
            what,
            keep,
            keep,
            &none,
            null(),
        )
    };
    where_rights_are(match error {
        ERROR_SUCCESS => Ok(()),
        error => Err(io::Error::from_raw_os_error(error as i32)),
    })
}

/// Takes it for success where the file system has no rights, as FAT has none.
fn where_rights_are(set: io::Result<()>) -> io::Result<()> {
    match set
        .as_ref()
        .map_err(|error| error.raw_os_error().map(|code| code as u32))
    {
        Err(Some(ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED)) => Ok(()),
        _ => set,
    }
}

/// Gives the hidden file the name `to`, also in place of a file there, which may be open.
///
/// File systems without such a call, FAT for example, first move the old file away, to its name with
/// `.onnxseal-old` at the end, where a power loss may leave it.
pub fn persist_over(hidden: &Path, to: &Path) -> io::Result<()> {
    // SAFETY: the path ends with a zero. The hidden file was for temporary bytes until now.
    succeeded(unsafe { SetFileAttributesW(wide(hidden).as_ptr(), FILE_ATTRIBUTE_NORMAL) })?;
    match fs::rename(hidden, to) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && to.is_file() => {
            let mut old = to.as_os_str().to_owned();
            old.push(".onnxseal-old");
            fs::rename(to, &old)?;
            fs::rename(hidden, to).inspect_err(|_| drop(fs::rename(&old, to)))?;
            // Its bytes stay for those who have it open.
            fs::remove_file(old)
        }
        renamed => renamed,
    }
}

/// Returns how much memory programs can take before others lose theirs, in bytes; none if Windows
/// does not tell.
pub fn available_memory() -> Option<u64> {
    let mut memory = MEMORYSTATUSEX {
        dwLength: size_of::<MEMORYSTATUSEX>() as u32,
        ..MEMORYSTATUSEX::default()
    };
    // SAFETY: the call writes to a value of its type, which says how long it is.
    let told = unsafe { GlobalMemoryStatusEx(&mut memory) };
    (told != 0).then_some(memory.ullAvailPhys)
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// Memory for what calls write, as pointers are aligned: 256 bytes. An identifier of a user takes
/// 68 at most.
struct Aligned([u64; 32]);

fn succeeded(done: i32) -> io::Result<()> {
    match done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use windows_sys::Win32::Security::Authorization::{
        ConvertSecurityDescriptorToStringSecurityDescriptorW, GetNamedSecurityInfoW,
        SDDL_REVISION_1,
    };

    use super::*;

    #[test]
    fn windows_tells_its_memory() {
        assert!(available_memory().unwrap() > 1 << 20);
    }

    /// Returns the rights of the file at `path`, as the language writes them.
    fn rights(path: &Path) -> String {
        let path = wide(path);
        let (mut descriptor, mut text, mut len) = (null_mut(), null_mut(), 0);
        let what = DACL_SECURITY_INFORMATION;
        // SAFETY: the path ends with a zero, the second call gets what the first made, and the text
        // has `len` units.
        let units = unsafe {
            let path = path.as_ptr();
            let to = &mut descriptor;
            let got = GetNamedSecurityInfoW(
                path,
                SE_FILE_OBJECT,
                what,
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                to,
            );
            assert_eq!(got, ERROR_SUCCESS);
            let of = SDDL_REVISION_1;
            let done = ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor, of, what, &mut text, &mut len,
            );
            assert_ne!(done, 0);
            std::slice::from_raw_parts(text, len as usize)
        };
        String::from_utf16_lossy(units)
            .trim_end_matches('\0')
            .to_owned()
    }

    #[test]
    fn a_file_is_for_its_owner_alone_or_has_the_rights_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (usual, own) = (dir.path().join("usual"), dir.path().join("own"));
        fs::write(&usual, "").unwrap();
        fs::write(&own, "").unwrap();
        restrict_to_user(&own).unwrap();
        // Wine adds the system, as which nobody logs in.
        let own_rights = rights(&own).replace("(A;;FA;;;SY)", "");
        assert_eq!(own_rights.matches('(').count(), 1, "{own_rights}");
        assert_ne!(rights(&own), rights(&usual));
        fs::write(&own, "still its owner's").unwrap();
        inherit_rights(&own).unwrap();
        assert_eq!(rights(&own), rights(&usual));
    }

    #[test]
    fn an_open_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (new, to) = (dir.path().join("new"), dir.path().join("to"));
        fs::write(&new, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let open = File::open(&to).unwrap();
        persist_over(&new, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(io::read_to_string(open).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(persist_over(&new, &to).is_err() && to.exists());
    }

    #[test]
    fn a_file_that_was_written_to_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let (id, then) = (file_id(&file).unwrap(), changed_ns(&file).unwrap());
        assert!(then > 1_700_000_000_000_000_000);
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "two").unwrap();
        assert!(changed_ns(&file).unwrap() > then);
        assert_eq!(file_id(&open_link(&path).unwrap()).unwrap(), id);
    }
}
