//! libFuzzer's end of the target `dns`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| egress::fuzzing::dns::run(data));
