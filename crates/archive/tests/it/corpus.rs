//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

#[path = "../../../../fuzz/src/copies.rs"]
mod copies;
#[path = "../../../../fuzz/src/ground.rs"]
mod ground;
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn copies_of_the_corpus_are_no_finding() {
    replay::replay("copies", copies::run);
}
