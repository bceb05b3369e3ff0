//! libFuzzer's end of the target `push`.

#![no_main]

mod mutators;

libfuzzer_sys::fuzz_target!(|data: &[u8]| git_proxy::fuzzing::push::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutators::packets::mutate(data, size, max_size, seed)
});
