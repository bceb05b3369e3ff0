//! libFuzzer's end of the target `guest_connection`.

#![no_main]

#[path = "../src/guest_connection.rs"]
mod guest_connection;
mod mutators;

use mutators::frames as by_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| guest_connection::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    by_frames::mutate(data, size, max_size, seed, 0, by_frames::message)
});
