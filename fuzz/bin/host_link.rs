//! libFuzzer's end of the target `host_link`.

#![no_main]

#[path = "../src/host_link.rs"]
mod host_link;
mod mutators;

use mutators::frames as by_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| host_link::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    by_frames::mutate(data, size, max_size, seed, 1, by_frames::message)
});
