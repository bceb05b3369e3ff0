//! libFuzzer's end of the target `layers`.

#![no_main]

#[path = "../src/ground.rs"]
mod ground;
#[path = "../src/layers.rs"]
mod layers;
mod mutators;

use mutators::frames as by_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| layers::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    by_frames::mutate(data, size, max_size, seed, 0, mutators::tar::archive)
});
