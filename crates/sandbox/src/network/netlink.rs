//! Messages to the kernel over netlink, and its answers.
//!
//! ```text
//!   header(16) │ body │ attribute: length u16, type u16, value, padded to 4 │ …      again and again
//! ```

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`, `NLM_F_APPEND`, from `linux/netlink.h`.
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`, whose code is 0 for "done".
const ERROR: u16 = 0x2;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

const HEADER: usize = 16;

/// Messages that go together.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// How many of them are answered.
    answered: u32,
    count: u32,
}

impl Messages {
    /// Adds a message.
    pub(super) fn push(&mut self, kind: u16, flags: u16, body: &[u8], attributes: &Attributes) {
        let length = HEADER + body.len() + attributes.0.len();
        self.count += 1;
        self.answered += u32::from(flags & ACK != 0);
        self.bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(body);
        self.bytes.extend(&attributes.0);
    }

    /// Sends all of them to this part of the kernel, in the network namespace of this thread. What is
    /// there already is no error.
    pub(super) fn send(&self, to: SockProtocol) -> io::Result<()> {
        let kernel: OwnedFd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, to)?;
        bind(kernel.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        send(kernel.as_raw_fd(), &self.bytes, MsgFlags::empty())?;
        let mut answers = 0;
        let mut buffer = [0; 8192];
        while answers < self.answered {
            let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            answers += read(&buffer[..length])?;
        }
        Ok(())
    }
}

/// How many answers these bytes hold; an error when one of them is.
fn read(mut bytes: &[u8]) -> io::Result<u32> {
    let mut answers = 0;
    while let Some((length, kind, code)) = head(bytes) {
        if kind == ERROR {
            match code {
                0 => {}
                code if -code == nix::libc::EEXIST => {}
                code => return Err(io::Error::from_raw_os_error(-code)),
            }
            answers += 1;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if answers == 0 { Err(io::Error::other("the kernel gave no answer")) } else { Ok(answers) }
}

fn head(bytes: &[u8]) -> Option<(usize, u16, i32)> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (length >= HEADER).then_some((length, kind, code))
}

/// Attributes of a message, or of an attribute.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds one.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number, in the order of the network.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_be_bytes())
    }

    /// Adds a text.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.with(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds attributes as one.
    pub(super) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.with(kind | NESTED, &inner.0)
    }

    /// All of these after each other.
    pub(super) fn all(of: impl IntoIterator<Item = Self>) -> Self {
        Self(of.into_iter().flat_map(|one| one.0).collect())
    }
}
