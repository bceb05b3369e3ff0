//! What viewers cost: ten thousand who see nothing, and a hundred of whom some never read.
//!
//! ```text
//!  idle     10,000 × GET /stream ─▶ heads read ─▶ the server's memory, before and after
//!  slow     100 × GET /sessions/ID/events, the same turns twice: all read · 10 of them never do
//!           for the others: from the event's time to its arrival
//! ```

use std::time::Duration;

use jiff::Timestamp;
use protocol::event::Event;
use protocol::ids::SessionId;
use serde_json::json;
use testkit::harness::{Part, Repo, Serve, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::figure::{Samples, line, round};
use crate::process::rss_kib;
use crate::{Bench, Failure};

const IDLE: usize = 10_000;
const VIEWERS: usize = 100;
const DEAF: usize = 10;

/// Connections that are made at once.
const AT_ONCE: usize = 100;

/// Requests to the model in one turn: each answer and its call are some events, and long enough that who does not
/// read is full soon.
const REQUESTS: usize = 120;

/// Between two pieces of an answer.
const PACE: Duration = Duration::from_millis(10);

/// Characters of an answer.
const ANSWER: usize = 20_000;

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    // A descriptor for each end is needed here and there.
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.1;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit, limit)?;
    idle(bench).await?;
    slow(bench).await
}

async fn idle(bench: &Bench) -> Result<(), Failure> {
    let model = ScriptedModel::start(Script::default()).await;
    let server = Serve::of(&bench.patchyard).model(&model).start().await;
    let pid = server.pid(Part::Server);
    let before = rss_kib(pid)?;
    let mut viewers = Vec::new();
    while viewers.len() < IDLE {
        let mut some = JoinSet::new();
        for _ in 0..AT_ONCE.min(IDLE - viewers.len()) {
            some.spawn(view(address(&server), server.token.clone(), "/api/v1/stream".to_owned()));
        }
        while let Some(viewer) = some.join_next().await {
            viewers.push(viewer??);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = rss_kib(pid)?;
    line(&json!({
        "figure": "memory of 10,000 viewers who see nothing",
        "server_mib": round(after / 1024.0),
        "added_mib": round((after - before) / 1024.0),
        "kib_each": round((after - before) / 10_000.0),
        "budget": "300 MiB",
    }));
    Ok(())
}

async fn slow(bench: &Bench) -> Result<(), Failure> {
    let text = "word ".repeat(ANSWER / 5);
    let turns = (0..3 * (REQUESTS + 1)).map(|number| match (number + 1) % (REQUESTS + 1) {
        0 => Turn::text("Done."),
        // The same call again and again would be asked about.
        _ => {
            let one =
                json!({ "content": format!("step {number}"), "status": "pending", "activeForm": "working" });
            Turn::text(&text).and_tool("TodoWrite", json!({ "todos": [one] })).chunk(ANSWER).pause(PACE)
        }
    });
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = Serve::of(&bench.patchyard).model(&model).start().await;
    let repo = Repo::with("bench", &[("README.md", "# bench\n")]);
    let session = server.create(&repo, "Warm up.").await;
    server.until_rest(session, 1).await;
    let all = round_of(&server, session, 0, 2).await?;
    let some = round_of(&server, session, DEAF, 3).await?;
    let change = (some.percentile(0.99) / all.percentile(0.99) - 1.0) * 100.0;
    line(&json!({
        "figure": "event to viewer, 100 viewers, all of whom read and 90 of whom read",
        "all_read": { "p50_ms": round(all.percentile(0.5)), "p99_ms": round(all.percentile(0.99)), "events": all.count() },
        "ten_never_read": { "p50_ms": round(some.percentile(0.5)), "p99_ms": round(some.percentile(0.99)), "events": some.count() },
        "change_p99_percent": round(change),
        "budget": "less than 10 %; 50 ms at p99",
    }));
    Ok(())
}

/// One turn before all viewers; what those who read waited for each event.
async fn round_of(
    server: &TestServer,
    session: SessionId,
    deaf: usize,
    turns: usize,
) -> Result<Samples, Failure> {
    let after = server.session(session).await.last_seq;
    let path = format!("/api/v1/sessions/{session}/events?after={after}");
    let (mut readers, mut silent) = (JoinSet::new(), Vec::new());
    for number in 0..VIEWERS {
        let viewer = view(address(server), server.token.clone(), path.clone()).await?;
        if number < deaf {
            silent.push(viewer);
        } else {
            readers.spawn(read(viewer));
        }
    }
    server.prompt(session, "Go on.").await;
    server.until_rest(session, turns).await;
    let mut all = Samples::default();
    while let Some(samples) = readers.join_next().await {
        all.extend(samples?.map_err(|error| error.to_string())?);
    }
    drop(silent);
    Ok(all)
}

fn address(server: &TestServer) -> String {
    server.address.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// Opens a stream, and reads no further than its head.
async fn view(address: String, token: String, path: String) -> std::io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(&address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).await? == 0 {
            return Err(std::io::Error::other("the server closed the stream"));
        }
    }
    if head.starts_with("HTTP/1.1 200") { Ok(reader) } else { Err(std::io::Error::other(head)) }
}

/// Reads events until a turn ends.
async fn read(mut stream: BufReader<TcpStream>) -> std::io::Result<Samples> {
    let mut samples = Samples::default();
    let mut bytes = Vec::new();
    loop {
        // A line may go over the pieces of the transfer, whose lengths are lines of their own.
        let length = piece(&mut stream).await?;
        let from = bytes.len();
        bytes.resize(from + length + 2, 0);
        stream.read_exact(&mut bytes[from..]).await?;
        bytes.truncate(from + length);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            let Ok(event) = serde_json::from_slice::<Event>(data) else { continue };
            samples.add(Timestamp::now().duration_since(event.at).unsigned_abs());
            if event.body.kind() == "turn.ended" {
                return Ok(samples);
            }
        }
    }
}

/// The length of the next piece of the transfer.
async fn piece(stream: &mut BufReader<TcpStream>) -> std::io::Result<usize> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)
}
