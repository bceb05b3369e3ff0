//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

#[path = "../../../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../../../fuzz/src/host_link.rs"]
mod host_link;
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn frames_of_the_corpus_are_no_finding() {
    replay("frames", frames::run);
}

#[test]
fn guests_of_the_corpus_are_no_finding() {
    replay("host_link", host_link::run);
}
