//! libFuzzer's end of the target `head`.

#![no_main]

mod mutators;

libfuzzer_sys::fuzz_target!(|data: &[u8]| egress::fuzzing::head::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutators::lines::mutate(data, size, max_size, seed)
});
