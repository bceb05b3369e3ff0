//! What the proxy of the local sandbox and the person at its terminal say to each other: a line of JSON
//! each.
//!
//! ```text
//!   proxy ── Ask 1, host, port ──▶ person ── 1, once ──▶ proxy
//!         ── Withdraw ──────────▶          the time is over; an answer to it counts no more
//!         ── Refused, Remark ───▶          told when the command has ended
//! ```

use serde::{Deserialize, Serialize};

use crate::network::DenyReason;

/// The longest line, in bytes.
pub const MAX_LINE: usize = 4096;

/// From the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToPerson {
    /// May this host be reached?
    Ask {
        /// The question's; they count up.
        number: u32,
        /// The canonical host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The last question is none any more.
    Withdraw,
    /// Something was refused: once for a host, port and reason.
    Refused {
        /// The host, or what was given instead, escaped.
        host: String,
        /// The port; 0 where there was none.
        port: u16,
        /// Why.
        reason: DenyReason,
    },
    /// Something about the network.
    Remark {
        /// A line.
        text: String,
    },
}

/// From the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromPerson {
    /// The question's.
    pub number: u32,
    /// The answer.
    pub answer: Answer,
}

/// What a person says about a host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// This connection.
    Once,
    /// For as long as the command runs.
    Session,
    /// Not at all, for as long as the command runs.
    No,
}
