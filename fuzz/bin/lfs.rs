//! libFuzzer's end of the target `lfs`.

#![no_main]

mod mutators;

libfuzzer_sys::fuzz_target!(|data: &[u8]| git_proxy::fuzzing::lfs::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutators::frames::mutate(data, size, max_size, seed, 1, mutators::json::text)
});
