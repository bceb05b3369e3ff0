//! A terminal for one command.
//!
//! ```text
//!   /dev/ptmx ── ours: what it prints is read, what is typed is written, its size is set
//!       └── /dev/pts/N ── the command's input, outputs and controlling terminal
//! ```

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::pty::{OpenptyResult, Winsize, openpty};
use protocol::hands::TerminalSize;
use tokio::net::unix::pipe;

/// Our end of a terminal.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

impl Terminal {
    /// A new one of this size, and the command's end of it.
    pub fn open(size: TerminalSize) -> io::Result<(Self, OwnedFd)> {
        let OpenptyResult { master, slave } = openpty(Some(&window(size)), None)?;
        for end in [&master, &slave] {
            // SAFETY: sets a flag of an open descriptor.
            if unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok((Self(master), slave))
    }

    /// Where what the command prints comes from. It ends with an error rather than with nothing more.
    pub fn output(&self) -> io::Result<pipe::Receiver> {
        // A terminal is no pipe, but is read and waited for in the same way.
        let end = self.again()?;
        nonblocking(&end)?;
        pipe::Receiver::from_owned_fd_unchecked(end)
    }

    /// Where what is typed goes.
    pub fn input(&self) -> io::Result<pipe::Sender> {
        pipe::Sender::from_owned_fd_unchecked(self.again()?)
    }

    /// Makes it another size, and tells who runs in it.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let window = window(size);
        // SAFETY: an open descriptor, and a complete structure that lives over the call.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &raw const window) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn again(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

fn nonblocking(end: &OwnedFd) -> io::Result<()> {
    // SAFETY: sets a flag of an open descriptor. It belongs to the open file, so that every copy of our
    // end has it.
    if unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn window(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
