//! libFuzzer's end of the target `host`.

#![no_main]

#[path = "../src/host.rs"]
mod host;

libfuzzer_sys::fuzz_target!(|data: &[u8]| host::run(data));
