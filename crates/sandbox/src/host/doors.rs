//! The ways into a sandbox that runs: its guest's socket, and the listeners of its network.
//!
//! ```text
//!   connect            ─▶ the socket that a guest made itself, opened without following a link
//!   listen · gateways  ─▶ in its network namespace
//!                      └▶ where its network stack is its own: sockets that its guest carries to
//! ```

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use protocol::egress::{Door, Gateway};
use protocol::guest::HELLO_TIMEOUT;
use protocol::ids::SandboxId;

use super::assemble::doors_of;
use super::config::{Refusal, Trying};
use super::disks::{self, DiskKind};
use super::plan::GUEST_SOCKET;
use super::sandboxes::Sandboxes;
use crate::mounts;
use crate::network::{self, relayed};
use crate::runtime::Runtime;
use crate::sockets;

/// Between two tries to reach a guest.
const PAUSE: Duration = Duration::from_millis(2);

impl Sandboxes {
    /// Connects to the socket that a guest made itself.
    pub(crate) fn connect(&self, sandbox: SandboxId) -> Result<UnixStream, Refusal> {
        let record = self.living(sandbox);
        let record = record.ok_or_else(|| Refusal::BadRequest(format!("no sandbox {sandbox} runs")))?;
        let what = || format!("connect to the guest of {sandbox}");
        let disk = record.disk.ok_or_else(|| Refusal::BadRequest(format!("{sandbox} has no disk")))?;
        let tree = DiskKind::again(disk, &self.place.home(sandbox)).trying(what)?;
        let folder = mounts::open_beneath(tree.as_fd(), disks::ATTACHMENT).trying(what)?;
        let until = Instant::now() + HELLO_TIMEOUT;
        loop {
            match sockets::connect_at(folder.as_fd(), GUEST_SOCKET.as_ref()) {
                Ok(stream) => return Ok(stream),
                // It has not come so far yet, or has enough to do.
                Err(error)
                    if Instant::now() < until
                        && matches!(
                            error.kind(),
                            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock
                        )
                        && self.living(sandbox).is_some() =>
                {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error).trying(what),
            }
        }
    }

    /// Opens the listeners of a sandbox's network that `egress` holds.
    pub(crate) fn listen(&self, sandbox: SandboxId) -> Result<Vec<(Door, OwnedFd)>, Refusal> {
        self.open(sandbox, network::open, relayed::open)
    }

    /// Opens the listeners that the server itself holds.
    pub(crate) fn gateways(&self, sandbox: SandboxId) -> Result<Vec<(Gateway, OwnedFd)>, Refusal> {
        self.open(sandbox, network::open_gateways, relayed::open_gateways)
    }

    fn open<T>(
        &self,
        sandbox: SandboxId,
        inside: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
        outside: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, Refusal> {
        let turn = self.turn(sandbox);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let living = self.living(sandbox).and_then(|record| Some((record.init()?, record)));
        let (init, record) =
            living.ok_or_else(|| Refusal::BadRequest(format!("no sandbox {sandbox} runs")))?;
        let runtime = Runtime::named(&record.runtime, &self.place.runtimes);
        let opened = match runtime.is_some_and(|runtime| runtime.kind().own_stack) {
            true => outside(&doors_of(&self.place.home(sandbox))),
            false => inside(init.as_fd()),
        };
        opened.trying(|| format!("open the listeners of {sandbox}"))
    }
}
