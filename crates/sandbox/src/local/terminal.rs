//! The caller's terminal and the command's own one, joined.
//!
//! ```text
//!   caller's terminal (raw) ══ bytes, size ══ master │ slave ── the command's controlling terminal
//! ```
//!
//! The command never holds the caller's terminal, so nothing that it does to its own outlasts it.

#![allow(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Both ends of a terminal of its own, and the caller's as it was.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
    before: libc::termios,
}

impl Terminal {
    /// A terminal of its own, when both input and output are the caller's; with its other end.
    pub(crate) fn open() -> io::Result<Option<(Self, OwnedFd)>> {
        let input = io::stdin();
        if !input.is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = attributes(input.as_fd())?;
        let size = size(input.as_fd());
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: two integers to be filled in, attributes and a size that live over the call.
        let result = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut slave,
                std::ptr::null_mut(),
                &raw const before,
                &raw const size,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just given both to us.
        let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for end in [&master, &slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        Ok(Some((Self { master, before }, slave)))
    }

    /// Passes every key on as it is; undone when this goes.
    pub(crate) fn raw(&self) {
        let mut raw = self.before;
        // SAFETY: changes a plain structure.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // SAFETY: an open descriptor and complete attributes.
        unsafe { libc::tcsetattr(0, libc::TCSANOW, &raw const raw) };
    }

    /// Gives the command's terminal the size of the caller's.
    pub(crate) fn resize(&self) {
        let size = size(io::stdin().as_fd());
        // SAFETY: an open descriptor and a complete size.
        unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// From the caller to the command; false when there will be no more.
    pub(crate) fn take(&self) -> bool {
        pass(io::stdin().as_fd(), self.master.as_fd())
    }

    /// What the caller has typed; nothing when there will be no more.
    pub(crate) fn typed(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 256];
        match nix::unistd::read(io::stdin(), &mut buffer) {
            Ok(0) => None,
            Ok(length) => Some(buffer[..length].to_vec()),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => Some(Vec::new()),
            Err(_) => None,
        }
    }

    /// Throws away what was typed before a question could be read.
    pub(crate) fn forget_typed(&self) {
        // SAFETY: an open descriptor.
        unsafe { libc::tcflush(0, libc::TCIFLUSH) };
    }

    /// Shows the caller something that is not the command's.
    pub(crate) fn say(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// From the command to the caller; false when there will be no more.
    pub(crate) fn give(&self) -> bool {
        pass(self.master.as_fd(), io::stdout().as_fd())
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // SAFETY: an open descriptor and the attributes that it had.
        unsafe { libc::tcsetattr(0, libc::TCSADRAIN, &raw const self.before) };
    }
}

fn pass(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 16 * 1024];
    match nix::unistd::read(from, &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match nix::unistd::write(to, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(nix::errno::Errno::EINTR) => {}
                    Err(_) => return false,
                }
            }
            true
        }
        Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => true,
        // The last one who had the other end open is gone.
        Err(_) => false,
    }
}

fn attributes(of: BorrowedFd<'_>) -> io::Result<libc::termios> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: an open descriptor and room for the attributes.
    match unsafe { libc::tcgetattr(of.as_raw_fd(), attributes.as_mut_ptr()) } {
        // SAFETY: filled in by the call.
        0 => Ok(unsafe { attributes.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn size(of: BorrowedFd<'_>) -> libc::winsize {
    let mut size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: an open descriptor and room for the size; on failure it stays as it is.
    unsafe { libc::ioctl(of.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    size
}
