//! Runs of batches, and which of them are safe from a power loss.
//!
//! A record has the times of outputs before they are synced, and a power loss may leave outputs
//! with these times but without all bytes. So each record names its run. Outputs of a run count
//! until the system reboots, and also later if the run synced them at its end. Then it leaves an
//! empty file `RUN.synced` in the folder of the records.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use onnxseal_store::{Flush, Location, OutputOptions, Permitted, create_file, no_links};
use serde::{Deserialize, Serialize};

use crate::RECORDS;
use crate::error::Result;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// 32 hexadecimal digits.
    id: String,
    /// The system's id of the present boot; absent if the system has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

impl Run {
    pub(crate) fn new() -> Run {
        // Linux, proc_sys_kernel(5): new after each boot, and common to all containers.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.ok().map(|boot| boot.trim().to_owned());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let unique = format!("{boot:?} {} {since:?}", std::process::id());
        let id = blake3::hash(unique.as_bytes()).to_hex();
        let id = id.get(..ID_DIGITS).unwrap_or_default().to_owned();
        Run { id, boot }
    }

    /// Returns whether records can tell that the system has rebooted.
    pub(crate) fn knows_boot(&self) -> bool {
        self.boot.is_some()
    }

    /// Returns whether the files that the run `of` wrote to `out` are safe from a power loss.
    pub(crate) fn is_kept(&self, of: &Run, out: &Location) -> bool {
        match out {
            // A store keeps what it has acknowledged.
            Location::Object(_) => true,
            Location::File(out) => self.boot.is_some() && self.boot == of.boot || of.is_synced(out),
            _ => false,
        }
    }

    /// Marks all files that this run wrote to `out` as synced.
    pub(crate) fn note_synced(&self, out: &Path) -> Result<()> {
        // Losing the mark only means making outputs again, so do not sync it.
        let mut options = OutputOptions::default();
        (options.replace, options.flush) = (true, Flush::Later);
        let mark = create_file(&out.join(self.mark()), 1, true)?;
        mark.publish(Permitted::OWNER, options)?;
        Ok(())
    }

    /// Returns whether the files that it wrote to `out` are synced.
    pub(crate) fn is_synced(&self, out: &Path) -> bool {
        let is_id = self.id.len() == ID_DIGITS && self.id.bytes().all(|b| b.is_ascii_hexdigit());
        is_id && matches!(no_links::open(out, &self.mark()), Ok(Some(_)))
    }

    fn mark(&self) -> PathBuf {
        Path::new(RECORDS).join(format!("{}.synced", self.id))
    }
}

const ID_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn runs_before_a_reboot_are_kept_if_they_waited_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(RECORDS)).unwrap();
        let out = Location::from(dir.path());
        let boot = |boot: Option<&str>| Run {
            boot: boot.map(str::to_owned),
            ..Run::new()
        };
        let (now, before, unnamed) = (boot(Some("b")), boot(Some("a")), boot(None));
        assert!(now.is_kept(&boot(Some("b")), &out));
        for old in [&before, &unnamed] {
            for of in [&now, &unnamed] {
                assert!(!of.is_kept(old, &out));
            }
            old.note_synced(dir.path()).unwrap();
            assert!(now.is_kept(old, &out) && unnamed.is_kept(old, &out));
        }
        let id = "../../elsewhere".to_owned();
        fs::write(dir.path().join("elsewhere.synced"), "").unwrap();
        assert!(!now.is_kept(&Run { id, boot: None }, &out));
    }
}
