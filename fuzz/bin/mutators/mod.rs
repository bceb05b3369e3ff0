//! How inputs are changed, for those targets where any change of any byte would seldom be understood.

#![allow(dead_code, reason = "each target is a program of its own, and uses a part")]

pub mod dice;
pub mod frames;
pub mod greeting;
pub mod json;
pub mod lines;
pub mod packets;
pub mod tar;
