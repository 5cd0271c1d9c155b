//! Runs of batches: which of them a power loss cannot have taken anything of any more.
//!
//! A record tells times of outputs before these are on the disk, and a power loss may leave outputs that
//! have these times and not all bytes. So each record names its run. What a run wrote is on the disk, or
//! on its way there, until the system starts anew; and also later, if the run waited for the disk at its
//! end. Then it leaves an empty file `RUN.synced` in the folder of the records.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use onnxseal_store::{Flush, Location, Output, OutputOptions, Permitted, beneath};
use serde::{Deserialize, Serialize};

use crate::RECORDS;
use crate::error::Result;

/// A run, as records name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// 32 hexadecimal digits.
    id: String,
    /// What the system calls the time since it started; absent where it has no such name.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

impl Run {
    /// This run.
    pub(crate) fn new() -> Run {
        // Linux, proc_sys_kernel(5): another one after each start, and the same in all containers.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let boot = boot.map(|boot| boot.trim().to_owned());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let unique = format!("{boot:?} {} {since:?}", std::process::id());
        let id = blake3::hash(unique.as_bytes()).to_hex();
        let id = id.get(..ID_DIGITS).unwrap_or_default().to_owned();
        Run { id, boot }
    }

    /// Whether records can tell when the system has started anew.
    pub(crate) fn knows_boot(&self) -> bool {
        self.boot.is_some()
    }

    /// Whether no power loss has taken anything of what the run `of` wrote to `out`.
    pub(crate) fn is_kept(&self, of: &Run, out: &Location) -> bool {
        match out {
            // A store has what it says that it has.
            Location::Object(_) => true,
            Location::File(out) => self.boot.is_some() && self.boot == of.boot || of.is_synced(out),
            _ => false,
        }
    }

    /// Says that all that this run wrote to `out` is on the disk.
    pub(crate) fn note_synced(&self, out: &Path) -> Result<()> {
        // Without it outputs are only made again, so nobody waits for it.
        let mut options = OutputOptions::default();
        (options.replace, options.flush) = (true, Flush::Later);
        let mark = Output::create_below(&out.join(self.mark()), 1, true)?;
        mark.publish(Permitted::OWNER, options)?;
        Ok(())
    }

    /// Whether what it wrote to `out` is on the disk.
    pub(crate) fn is_synced(&self, out: &Path) -> bool {
        let is_id = self.id.len() == ID_DIGITS && self.id.bytes().all(|b| b.is_ascii_hexdigit());
        is_id && matches!(beneath::open(out, &self.mark()), Ok(Some(_)))
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
