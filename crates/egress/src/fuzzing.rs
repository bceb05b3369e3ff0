//! What the fuzzer runs: the readers of what a sandbox sends, each beside a second reader of the same.
//!
//! ```text
//!   fuzz/bin ─▶ fuzz/src, compiled here ─▶ head · body · socks · hello · dns     the feature `fuzzing`
//!   fuzz/corpus ─▶ the same, without the fuzzer                                  tests
//! ```
//!
//! The product is never built with it.

#[path = "../../../fuzz/src/body.rs"]
pub mod body;
#[path = "../../../fuzz/src/dns.rs"]
pub mod dns;
#[path = "../../../fuzz/src/head.rs"]
pub mod head;
#[path = "../../../fuzz/src/hello.rs"]
pub mod hello;
#[path = "../../../fuzz/src/socks.rs"]
pub mod socks;

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::{body, dns, head, hello, socks};

    #[test]
    fn heads_of_the_corpus_are_no_finding() {
        replay("head", head::run);
    }

    #[test]
    fn bodies_of_the_corpus_are_no_finding() {
        replay("body", body::run);
    }

    #[test]
    fn socks_of_the_corpus_is_no_finding() {
        replay("socks", socks::run);
    }

    #[test]
    fn greetings_of_the_corpus_are_no_finding() {
        replay("hello", hello::run);
    }

    #[test]
    fn questions_of_the_corpus_are_no_finding() {
        replay("dns", dns::run);
    }
}
