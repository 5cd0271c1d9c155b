//! Programs that do not outlive what they are run for.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// How often a wait looks at the clock, and asks whether to stop.
pub(super) const STEP: Duration = Duration::from_millis(20);

/// A running program, which is killed if this is dropped before its end.
pub(super) struct Running {
    pub(super) child: Child,
    /// Whether its process group is killed with it, on Unix.
    #[cfg_attr(not(unix), allow(dead_code))]
    leads_group: bool,
    /// Whether its number may be another process's.
    has_ended: bool,
}

impl Running {
    pub(super) fn spawn(command: &mut Command, leads_group: bool) -> io::Result<Running> {
        #[cfg(unix)]
        if leads_group {
            std::os::unix::process::CommandExt::process_group(command, 0);
        }
        Ok(Running {
            child: command.spawn()?,
            leads_group,
            has_ended: false,
        })
    }

    /// Waits for the end, or until `check` fails. Returns `None` if how the program ended is lost:
    /// another part of this process has waited for it, or the system did because the process
    /// ignores `SIGCHLD`.
    pub(super) fn wait(
        &mut self,
        check: impl Fn() -> io::Result<()>,
    ) -> io::Result<Option<ExitStatus>> {
        loop {
            let status = self.child.try_wait();
            // On an error somebody else has waited for it.
            self.has_ended = !matches!(status, Ok(None));
            match status {
                Ok(None) => {}
                #[cfg(unix)]
                Err(error) if error.raw_os_error() == Some(nix::libc::ECHILD) => return Ok(None),
                ended => return ended,
            }
            check()?;
            std::thread::sleep(STEP);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        #[cfg(unix)]
        if let (true, Ok(group)) = (self.leads_group, i32::try_from(self.child.id())) {
            use nix::sys::signal::{Signal, killpg};
            let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
