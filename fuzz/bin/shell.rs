//! libFuzzer's end of the target `shell`.

#![no_main]

#[path = "../src/shell.rs"]
mod shell;

libfuzzer_sys::fuzz_target!(|data: &[u8]| shell::run(data));
