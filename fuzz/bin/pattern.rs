//! libFuzzer's end of the target `pattern`.

#![no_main]

#[path = "../src/pattern.rs"]
mod pattern;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pattern::run(data));
