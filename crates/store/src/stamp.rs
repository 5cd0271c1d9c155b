//! Stamps: they tell, without reading a file or an object, whether it was changed.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::regular::open_regular;

/// Tells, without reading a file or an object, whether it was changed. Leaves out its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Stamp {
    /// A file: its times, in nanoseconds since 1970, and its number. Leaves out the device's
    /// number, which may change with a reboot or another machine.
    File {
        /// When its bytes were last written.
        modified_ns: i64,
        /// When its bytes, permissions or names last changed, which nobody can set back.
        #[serde(skip_serializing_if = "Option::is_none")]
        changed_ns: Option<i64>,
        /// Its number (inode, or file index) on its file system.
        #[serde(skip_serializing_if = "Option::is_none")]
        inode: Option<u64>,
    },
    Object {
        /// Its entity tag (RFC 9110, 8.8.3).
        e_tag: String,
        /// Its version, if the store keeps several.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
}

impl Stamp {
    /// Returns the stamp of a file, or `None` if the system has no times.
    pub fn of(file: &File) -> Option<Stamp> {
        let metadata = file.metadata().ok()?;
        #[cfg(unix)]
        let (changed_ns, inode) = {
            use std::os::unix::fs::MetadataExt;
            let seconds = metadata.ctime().saturating_mul(1_000_000_000);
            let changed_ns = seconds.saturating_add(metadata.ctime_nsec());
            (Some(changed_ns), Some(metadata.ino()))
        };
        #[cfg(windows)]
        let (changed_ns, inode) = {
            let number = crate::windows::file_id(file).ok();
            // The low half, which is all of it but on ReFS.
            (
                crate::windows::changed_ns(file).ok(),
                number.map(|(_, number)| number as u64),
            )
        };
        #[cfg(not(any(unix, windows)))]
        let (changed_ns, inode) = (None, None);
        Some(Stamp::File {
            modified_ns: nanoseconds(metadata.modified().ok()?),
            changed_ns,
            inode,
        })
    }

    /// Returns the stamp of the regular file at `path`, or `None` if there is none.
    pub fn at(path: &Path) -> Option<Stamp> {
        Stamp::of(&open_regular(path).ok()?)
    }

    /// Leaves out the change time, for a file that is about to get its name, which changes it.
    pub(crate) fn before_naming(mut self) -> Stamp {
        if let Stamp::File { changed_ns, .. } = &mut self {
            *changed_ns = None;
        }
        self
    }

    /// Returns whether the present stamp `there` shows no change since this one.
    pub fn fits(&self, there: &Stamp) -> bool {
        // Only a stamp without a change time equals one from which that was left out.
        self == there || *self == there.clone().before_naming()
    }

    /// Returns whether any later write will change this stamp. Times advance in steps, on some file
    /// systems of 2 s: a file that was just written may be written again and keep its time.
    pub fn is_settled(&self) -> bool {
        const STEP: Duration = Duration::from_secs(2);
        match self {
            Stamp::File { modified_ns, .. } => {
                modified_ns.saturating_add(STEP.as_nanos() as i64) < nanoseconds(SystemTime::now())
            }
            Stamp::Object { .. } => true,
        }
    }
}

/// Returns the nanoseconds since 1970, clamped to the years 1677 to 2262.
fn nanoseconds(time: SystemTime) -> i64 {
    let most = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or_else(|before| -most(before.duration()), most)
}

/// The version of an object, as far as its store tells.
#[derive(Clone, Debug)]
pub struct Version(#[cfg(feature = "object-store")] pub(crate) object_store::UpdateVersion);

#[cfg(feature = "object-store")]
impl Version {
    /// Returns the stamp of this version, or `None` if the store gives no tag.
    pub(crate) fn stamp(self) -> Option<Stamp> {
        let object_store::UpdateVersion { e_tag, version } = self.0;
        let e_tag = e_tag?;
        Some(Stamp::Object { e_tag, version })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_write_another_file_and_a_time_set_back_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        let stamp = || Stamp::at(&path).unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        let set = |time| {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        };
        fs::write(&path, "one").unwrap();
        assert!(!stamp().is_settled());
        set(old);
        let first = stamp();
        assert!(first.is_settled() && first.fits(&stamp()));

        fs::write(&path, "two").unwrap();
        assert!(!first.fits(&stamp()) && !first.clone().before_naming().fits(&stamp()));
        // The change time tells, if the stamp has it.
        std::thread::sleep(Duration::from_millis(20));
        set(old);
        assert!(!first.fits(&stamp()) && first.clone().before_naming().fits(&stamp()));
        let copy = dir.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        fs::rename(&copy, &path).unwrap();
        set(old);
        assert!(!first.clone().before_naming().fits(&stamp()));

        set(SystemTime::now() + Duration::from_secs(60));
        assert!(!stamp().is_settled());
        // File systems need not know the year 2300; the other properties still tell.
        set(UNIX_EPOCH + Duration::from_secs(10_413_792_000));
        let late = stamp();
        std::thread::sleep(Duration::from_millis(20));
        fs::set_permissions(&path, fs::metadata(&path).unwrap().permissions()).unwrap();
        assert!(!late.is_settled() && !late.fits(&stamp()));
    }

    #[test]
    fn stamps_come_back_from_json_and_an_empty_one_is_none() {
        let object = Stamp::Object {
            e_tag: "\"0\"".to_owned(),
            version: None,
        };
        let file = Stamp::at(Path::new("Cargo.toml")).unwrap();
        for stamp in [&file, &file.clone().before_naming(), &object] {
            let text = serde_json::to_string(stamp).unwrap();
            assert_eq!(
                &serde_json::from_str::<Stamp>(&text).unwrap(),
                stamp,
                "{text}"
            );
        }
        assert!(!file.fits(&object) && !object.fits(&file));
        assert!(serde_json::from_str::<Stamp>("{}").is_err());
    }
}
