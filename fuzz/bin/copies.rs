//! libFuzzer's end of the target `copies`.

#![no_main]

#[path = "../src/copies.rs"]
mod copies;
#[path = "../src/ground.rs"]
mod ground;
mod mutators;

libfuzzer_sys::fuzz_target!(|data: &[u8]| copies::run(data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = mutators::dice::Dice::new(seed);
    let Some(archive) = data.get(1..size) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    };
    let mut archive = archive.to_vec();
    if dice.below(10) == 0 {
        data[0] = dice.below(256) as u8;
    }
    mutators::tar::archive(&mut archive, &mut dice);
    let length = archive.len().min(max_size - 1);
    data[1..=length].copy_from_slice(&archive[..length]);
    length + 1
});
