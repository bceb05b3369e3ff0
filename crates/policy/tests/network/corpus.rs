//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

use std::path::Path;

#[path = "../../../../fuzz/src/host.rs"]
mod host;
#[path = "../../../../fuzz/src/pattern.rs"]
mod pattern;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 5, "{} is nearly empty", folder.display());
}

#[test]
fn hosts_are_read_as_every_other_reader_does() {
    replay("host", host::run);
}

#[test]
fn patterns_and_lists_say_the_same() {
    replay("pattern", pattern::run);
}
