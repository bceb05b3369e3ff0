//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

#[path = "../../../../fuzz/src/host.rs"]
mod host;
#[path = "../../../../fuzz/src/pattern.rs"]
mod pattern;
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../../fuzz/src/shell.rs"]
mod shell;

use replay::replay;

#[test]
fn hosts_are_read_as_every_other_reader_does() {
    replay("host", host::run);
}

#[test]
fn patterns_and_lists_say_the_same() {
    replay("pattern", pattern::run);
}

#[test]
fn a_denied_command_is_found_behind_every_text() {
    replay("shell", shell::run);
}
