//! libFuzzer's end of the target `guest_connection`.

#![no_main]

#[path = "../src/guest_connection.rs"]
mod guest_connection;

libfuzzer_sys::fuzz_target!(|data: &[u8]| guest_connection::run(data));
