//! What the fuzzer found worth keeping, without the fuzzer: `fuzz/corpus`.

use std::process::Command;

use protocol::guest::{ToGuest, WIRE_VERSION, decode};

#[path = "../../../../fuzz/src/guest_connection.rs"]
#[allow(unreachable_pub)]
mod guest_connection;
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;

/// Not a test: what the test runs as process 1 of a process namespace, because the guest signals every
/// process that it sees.
#[test]
#[ignore = "run by the other test in a process namespace"]
fn hosts_of_the_corpus() {
    replay::replay("guest_connection", guest_connection::run);
}

#[test]
fn hosts_of_the_corpus_are_no_finding() {
    let mut alone = Command::new("unshare");
    alone.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    if !nix::unistd::geteuid().is_root() {
        alone.args(["--user", "--map-root-user"]);
    }
    let test = std::env::current_exe().unwrap();
    alone.arg(test).args(["--exact", "corpus::hosts_of_the_corpus", "--ignored", "--nocapture"]);
    let folder = tempfile::tempdir().unwrap();
    let output = alone.env("TMPDIR", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A guest hangs up after a greeting of another version: inputs of an older one would fuzz nothing else.
#[test]
fn first_inputs_speak_the_wire_of_this_version() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/guest_connection");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let (mut rest, mut said) = (bytes.as_slice(), Vec::new());
        while let Some((header, behind)) = rest.split_first_chunk::<4>() {
            let (content, behind) = behind.split_at(u32::from_le_bytes(*header) as usize);
            said.push(
                decode::<ToGuest>(content).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            );
            rest = behind;
        }
        let greets = matches!(said.first(), Some(ToGuest::Hello(hello)) if hello.version == WIRE_VERSION);
        assert!(greets && said.len() > 1, "{}: {said:?}", path.display());
    }
}
