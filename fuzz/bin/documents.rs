//! libFuzzer's end of the target `documents`.

#![no_main]

#[path = "../src/documents.rs"]
mod documents;
#[path = "../src/ground.rs"]
mod ground;
mod mutators;

use mutators::frames as by_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| documents::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    by_frames::mutate(data, size, max_size, seed, 1, mutators::json::text)
});
