//! libFuzzer's end of the target `socks`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| egress::fuzzing::socks::run(data));
