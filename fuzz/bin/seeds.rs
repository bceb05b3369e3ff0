//! Writes the first inputs of every target: conversations as they are meant to be.
//!
//! ```text
//!   cargo run --manifest-path fuzz/Cargo.toml --bin seeds -- fuzz/corpus
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io};

use protocol::guest::{FromGuest, Hello, Reply, Request, ToGuest, WIRE_VERSION, encode};
use protocol::hands::{
    DirEntry, ExecEnd, ExecSignal, ExecSpec, FileChunk, FileKind, FileStat, HandsError, TerminalSize,
};
use protocol::ids::ExecId;

mod seeds {
    pub mod archives;
    pub mod commands;
    pub mod documents;
    pub mod lfs;
    pub mod network;
    pub mod pushes;
}
use seeds::{archives, commands, documents, lfs, network, pushes};

fn main() -> io::Result<()> {
    let corpus = env::args().nth(1).map_or_else(|| PathBuf::from("fuzz/corpus"), PathBuf::from);
    for (number, message) in to_guest().iter().enumerate() {
        write(&corpus, "frames", &format!("to-guest-{number}"), &frame(message))?;
    }
    for (number, message) in from_guest().iter().enumerate() {
        write(&corpus, "frames", &format!("from-guest-{number}"), &frame(message))?;
        let alone = [&[0], frame(message).as_slice()].concat();
        write(&corpus, "host_link", &format!("one-{number}"), &alone)?;
    }
    let answers: Vec<u8> = from_guest().iter().flat_map(frame).collect();
    write(&corpus, "host_link", "polite", &[&[0], answers.as_slice()].concat())?;
    let hello = Hello { version: WIRE_VERSION, capabilities: vec!["x".into()] };
    let greeted = [vec![1], frame(&FromGuest::Hello(hello.clone())), answers].concat();
    write(&corpus, "host_link", "own-hello", &greeted)?;
    let hello = frame(&ToGuest::Hello(hello));
    for (number, message) in to_guest().iter().enumerate() {
        let alone = [hello.as_slice(), &frame(message)].concat();
        write(&corpus, "guest_connection", &format!("one-{number}"), &alone)?;
    }
    let all: Vec<u8> = to_guest().iter().flat_map(frame).collect();
    write(&corpus, "guest_connection", "polite", &[hello, all].concat())?;
    for (number, archive) in archives::all().iter().enumerate() {
        for destination in 0..3 {
            let name = format!("to-{destination}-{number}");
            write(&corpus, "copies", &name, &[&[destination], archive.as_slice()].concat())?;
        }
        write(&corpus, "layers", &format!("one-{number}"), &framed(&[archive]))?;
    }
    for (number, layers) in archives::layered().iter().enumerate() {
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        write(&corpus, "layers", &format!("layered-{number}"), &framed(&layers))?;
    }
    for (number, text) in commands::TEXTS.iter().enumerate() {
        write(&corpus, "shell", &format!("text-{number}"), text.as_bytes())?;
    }
    for (name, form, texts) in documents::all() {
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        write(&corpus, "documents", name, &[vec![form], framed(&texts)].concat())?;
    }
    for (number, [request, answer]) in lfs::all().iter().enumerate() {
        let texts = framed(&[request.as_bytes(), answer.as_bytes()]);
        write(&corpus, "lfs", &format!("one-{number}"), &[vec![0], texts].concat())?;
    }
    of_the_network(&corpus)
}

fn of_the_network(corpus: &Path) -> io::Result<()> {
    let heads = network::HEADS.map(|head| head.as_bytes().to_vec());
    let bodies = network::BODIES.map(|(early, body)| [&[early], body.as_bytes()].concat());
    for (target, inputs) in [
        ("head", heads.to_vec()),
        ("body", bodies.to_vec()),
        ("socks", network::socks()),
        ("hello", network::greetings()),
        ("dns", network::questions()),
        ("push", pushes::all()),
    ] {
        for (number, input) in inputs.iter().enumerate() {
            write(corpus, target, &format!("one-{number}"), input)?;
        }
    }
    Ok(())
}

/// Contents with their lengths before them.
fn framed(contents: &[&[u8]]) -> Vec<u8> {
    let length = |content: &[u8]| u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes();
    contents.iter().flat_map(|content| [&length(content), *content].concat()).collect()
}

fn write(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(corpus.join(target))?;
    fs::write(corpus.join(target).join(name), bytes)
}

fn frame<T: serde::Serialize>(message: &T) -> Vec<u8> {
    encode(message).unwrap_or_default()
}

fn exec(number: u128) -> ExecId {
    ExecId::from_parts(0, number)
}

fn to_guest() -> Vec<ToGuest> {
    let start = |number, argv: &[&str], terminal| {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let timeout = Some(Duration::from_millis(20));
        let env = vec![("A".to_owned(), "b".to_owned())];
        let spec =
            ExecSpec { stdin: true, terminal, timeout, env, ..ExecSpec::new(exec(number), argv, "/d") };
        Request::Start(spec)
    };
    let size = TerminalSize { rows: 24, columns: 80 };
    let path = || "/f".to_owned();
    let requests = [
        start(1, &["x"], None),
        start(2, &["xxxxx"], Some(size)),
        Request::Resize { exec: exec(2), size },
        Request::Signal { exec: exec(1), signal: ExecSignal::Interrupt },
        Request::Signal { exec: exec(2), signal: ExecSignal::Kill },
        Request::ReadFile { path: path(), offset: 1, limit: 10 },
        Request::ReadFile { path: path(), offset: 0, limit: 256 * 1024 },
        Request::WriteFile { path: path(), offset: 0, bytes: b"abc".to_vec(), last: false },
        Request::WriteFile { path: path(), offset: 3, bytes: b"def".to_vec(), last: true },
        Request::Stat { path: path() },
        Request::List { path: "/".into() },
        Request::KillAll,
    ];
    let numbered = (1..).zip(requests).map(|(id, request)| ToGuest::Request { id, request });
    let mut all: Vec<ToGuest> = numbered.collect();
    all.insert(2, ToGuest::Stdin { exec: exec(1), bytes: b"abc".to_vec() });
    all.insert(3, ToGuest::Stdin { exec: exec(1), bytes: Vec::new() });
    all.insert(4, ToGuest::Credit { exec: exec(1), bytes: 1000 });
    all
}

/// Answers in the order in which the target `host_link` asks.
fn from_guest() -> Vec<FromGuest> {
    let reply = |id, reply| FromGuest::Reply { id, reply };
    let output = |stderr| FromGuest::Output { exec: exec(1), stderr, bytes: b"abc".to_vec() };
    let end = ExecEnd { code: Some(0), ..ExecEnd::default() };
    let stat = FileStat { kind: FileKind::File, size: 3, mode: 0o644, modified_ms: 5 };
    vec![
        reply(1, Ok(Reply::Done)),
        reply(2, Ok(Reply::Done)),
        FromGuest::StdinTaken { exec: exec(2), bytes: 1000 },
        output(false),
        output(true),
        FromGuest::Exited { exec: exec(1), end },
        FromGuest::Exited { exec: exec(2), end },
        reply(3, Ok(Reply::Stat(stat))),
        reply(4, Ok(Reply::Chunk(FileChunk { bytes: b"abc".to_vec(), size: 3 }))),
        reply(5, Ok(Reply::Entries(vec![DirEntry { name: "a".into(), kind: FileKind::Directory }]))),
        reply(6, Ok(Reply::Done)),
        reply(7, Err(HandsError::NotFound { path: "/b".into() })),
    ]
}
