//! The corpus of a target without the fuzzer.

use std::path::Path;

/// Runs a target over every input of its corpus, and names the one that is a finding.
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
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
