//! libFuzzer's end of the target `frames`.

#![no_main]

#[path = "../src/frames.rs"]
mod frames;
mod mutators;

use mutators::frames as by_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frames::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    by_frames::mutate(data, size, max_size, seed, 0, by_frames::message)
});
