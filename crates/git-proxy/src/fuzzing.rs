//! What the fuzzer runs: the readers of what a sandbox sends to push, and of batches of git LFS, each beside a
//! second reader.
//!
//! ```text
//!   fuzz/bin ─▶ fuzz/src, compiled here ─▶ push, lfs      the feature `fuzzing`
//!   fuzz/corpus ─▶ the same, without the fuzzer      tests
//! ```
//!
//! The product is never built with it.

#[path = "../../../fuzz/src/lfs.rs"]
pub mod lfs;

#[path = "../../../fuzz/src/push.rs"]
pub mod push;

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::{lfs, push};

    #[test]
    fn batches_of_the_corpus_are_no_finding() {
        replay("lfs", lfs::run);
    }

    #[test]
    fn pushes_of_the_corpus_are_no_finding() {
        replay("push", push::run);
    }
}
