//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

use std::path::Path;

#[path = "../../../../fuzz/src/copies.rs"]
mod copies;
#[path = "../../../../fuzz/src/ground.rs"]
mod ground;

#[test]
fn copies_of_the_corpus_are_no_finding() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/copies");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| copies::run(&input)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 5, "{count}");
}
