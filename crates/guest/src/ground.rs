//! Where the guest works: in a sandbox of its own, or on somebody's own machine.
//!
//! ```text
//!               in a sandbox                        on a machine
//!   it is       process 1, of all that there is     one process of the person's, whose commands are its own
//!   commands    are root, gain no rights            are the person, as in a shell of theirs
//!   a kill      stops everybody for a moment        stops and ends only what the command started
//! ```

#![allow(unsafe_code)]

use std::io;

use crate::environment;

/// `CAP_SYS_PTRACE`: process 1 holds it to read every environment; commands do not get it.
const CAP_SYS_PTRACE: libc::c_ulong = 19;

/// How much sooner than process 1 the kernel kills a command when memory runs out.
const OOM_SCORE: &[u8] = b"500";

/// Where the guest works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// A sandbox; `nested` says that containers may be made inside, so that commands may gain rights.
    Sandbox {
        /// Whether every command may gain rights.
        nested: bool,
    },
    /// The machine of whoever started it.
    Machine,
}

impl Default for Ground {
    fn default() -> Self {
        Self::Sandbox { nested: false }
    }
}

impl Ground {
    /// Whether everything that runs but process 1 is the guest's to stop.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Sandbox { .. })
    }

    /// Makes a command what commands are here, between fork and exec: it only makes system calls on plain values.
    pub fn settle_command(self, new_privileges: bool) -> io::Result<()> {
        let Self::Sandbox { nested } = self else { return Ok(()) };
        environment::become_root()?;
        // SAFETY: plain system calls on plain values, safe between fork and exec.
        unsafe {
            if !(new_privileges || nested) && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if score >= 0 {
                // Raising needs no right; a failure leaves the command as likely to die as process 1.
                libc::write(score, OOM_SCORE.as_ptr().cast(), OOM_SCORE.len());
            }
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0);
        }
        Ok(())
    }
}
