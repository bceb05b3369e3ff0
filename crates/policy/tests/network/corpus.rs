//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

#[path = "../../../../fuzz/src/host.rs"]
mod host;
#[path = "../../../../fuzz/src/pattern.rs"]
mod pattern;
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn hosts_are_read_as_every_other_reader_does() {
    replay("host", host::run);
}

#[test]
fn patterns_and_lists_say_the_same() {
    replay("pattern", pattern::run);
}
