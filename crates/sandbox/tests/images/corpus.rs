//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

#[path = "../../../../fuzz/src/documents.rs"]
mod documents;
#[path = "../../../../fuzz/src/ground.rs"]
mod ground;
#[path = "../../../../fuzz/src/layers.rs"]
mod layers;
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn layers_of_the_corpus_are_no_finding() {
    replay("layers", layers::run);
}

#[test]
fn documents_of_the_corpus_are_no_finding() {
    replay("documents", documents::run);
}
