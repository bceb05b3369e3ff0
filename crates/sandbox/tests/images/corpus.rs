//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

use std::path::Path;

#[path = "../../../../fuzz/src/documents.rs"]
mod documents;
#[path = "../../../../fuzz/src/ground.rs"]
mod ground;
#[path = "../../../../fuzz/src/layers.rs"]
mod layers;

/// Every input of a target.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| run(&input)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 5, "{target}: {count}");
}

#[test]
fn layers_of_the_corpus_are_no_finding() {
    replay("layers", layers::run);
}

#[test]
fn documents_of_the_corpus_are_no_finding() {
    replay("documents", documents::run);
}
