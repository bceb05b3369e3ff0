//! The network of a sandbox: `lo`, and listeners on it that somebody outside holds.
//!
//! ```text
//!   any address ── route `local 0.0.0.0/0, ::/0 dev lo` ──▶ this very namespace
//!        │ TCP, but not to 127/8 and ::1 ── nft redirect ──▶ :3129  captured, asks for its first address
//!        │ UDP 53 ────────────────────────────────────────▶ :53    names
//!        └ all else ──────────────────────────────────────▶ refused at once
//!   127.0.0.1:3128, [::1]:3128 ──────────────────────────────────▶ the proxy, for who knows of it
//!   127.0.0.1:3130 · :3131 ──────────────────────────────────────▶ the model · git; held by the server
//! ```
//!
//! A sandbox whose network stack is its own (gVisor's) has the listeners of the last two lines only, and its
//! guest holds them for us: `relayed`.
//!
//! The last line is there at every level, the others only where something may be reached.
//!
//! There is no other device: whatever a sandbox does to routes and rules, nothing leaves but what the
//! holder of the listeners lets through. The listeners are the sandbox's identity.

mod listeners;
mod netlink;
mod nft;
pub(crate) mod relayed;
mod route;

pub(crate) use listeners::{Doors, open, open_gateways, open_here};
