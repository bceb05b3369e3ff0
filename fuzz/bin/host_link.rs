//! libFuzzer's end of the target `host_link`.

#![no_main]

#[path = "../src/host_link.rs"]
mod host_link;

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_link::run(data));
