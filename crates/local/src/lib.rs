//! A session on one's own machine.

#![forbid(unsafe_code)]

mod hands;

pub use hands::LocalHands;
