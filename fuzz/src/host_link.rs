//! The host's end of the guest wire: the link over a connection whose other end says anything.
//!
//! ```text
//!   input:  1 byte: even = a true hello goes first │ bytes as they come from the guest
//!
//!   start 1 · start 2 with input · stat · read · list · write · kill      asked at the beginning, in
//!                                                                         this order, so that ids are known
//! ```
//!
//! Whatever comes, every call returns, nothing larger than was asked for is handed on, and the link is
//! dead once the other end is.

use std::time::Duration;

use protocol::attachment::Attachment;
use protocol::guest::{FromGuest, Hello, WIRE_VERSION, encode};
use protocol::hands::{ExecEvent, ExecSpec, Hands, HandsError};
use protocol::ids::{ExecId, SandboxId, SessionId};
use protocol::sandbox_host::Made;
use protocol::sandbox_spec::{Limits, Tier};
use sandbox::guest_link::GuestLink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// More than any timeout of the link; the clock jumps when nothing else is to be done.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// The most of a file that is asked for.
const WANTED: u64 = 300_000;

/// The id of a command that an input can name.
pub fn exec(number: u128) -> ExecId {
    ExecId::from_parts(0, number)
}

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let Some((kind, said)) = data.split_first() else { return };
    let hello = Hello { version: WIRE_VERSION, capabilities: Vec::new() };
    let hello = encode(&FromGuest::Hello(hello)).unwrap_or_default();
    let said = if kind.is_multiple_of(2) { [&hello, said].concat() } else { said.to_vec() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let Ok(runtime) = runtime else { return };
    let outcome = runtime.block_on(async { tokio::time::timeout(FOR_EVER, converse(said)).await });
    assert!(outcome.is_ok(), "a call never returned");
}

async fn converse(said: Vec<u8>) {
    let Ok((ours, theirs)) = UnixStream::pair() else { return };
    let guest = tokio::spawn(speak(theirs, said));
    if let Ok(link) = GuestLink::over(&made(), ours).await {
        tokio::join!(command(&link, 1, false), command(&link, 2, true), files(&link), async {
            drop(link.kill_all().await)
        },);
        link.closed().await;
        assert!(matches!(link.stat("/").await, Err(HandsError::Gone(_))), "a dead link answers");
    }
    let _ = guest.await;
}

/// Says it all, hears the rest, and hangs up.
async fn speak(stream: UnixStream, said: Vec<u8>) {
    let (mut reader, mut writer) = stream.into_split();
    let hear = async {
        let mut heard = vec![0; 64 * 1024];
        while reader.read(&mut heard).await.is_ok_and(|count| count > 0) {}
    };
    let say = async {
        let _ = writer.write_all(&said).await;
        let _ = writer.shutdown().await;
    };
    tokio::join!(hear, say);
}

async fn command(link: &GuestLink, number: u128, stdin: bool) {
    let spec = ExecSpec { stdin, ..ExecSpec::new(exec(number), vec!["true".into()], "/") };
    let Ok(mut command) = link.start(spec).await else { return };
    if stdin {
        // It waits for room only as long as the link lives.
        let _ = command.write_stdin(&[7; 300_000]).await;
    }
    while let Ok(event) = command.next().await {
        match event {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => {
                assert!(!bytes.is_empty() && bytes.len() <= 64 * 1024, "a piece of {}", bytes.len());
            }
            ExecEvent::Exited(_) => return,
        }
    }
}

/// All at once: an answer is only good for a question that was asked.
async fn files(link: &GuestLink) {
    tokio::join!(
        async { drop(link.stat("/a").await) },
        async {
            if let Ok(chunk) = link.read_file("/a", 0, WANTED).await {
                assert!(chunk.bytes.len() as u64 <= WANTED, "more than was asked for");
            }
        },
        async {
            if let Ok(entries) = link.list("/").await {
                let is_name = |name: &str| !["", ".", ".."].contains(&name) && !name.contains(['/', '\0']);
                assert!(entries.iter().all(|entry| is_name(&entry.name)), "{entries:?}");
            }
        },
        async { drop(link.write_file("/b", &[1; 10]).await) },
    );
}

fn made() -> Made {
    Made {
        attachment: Attachment {
            session: Some(SessionId::from_parts(0, 1)),
            sandbox: SandboxId::from_parts(0, 1),
            guest_socket: None,
        },
        tier: Tier::Container,
        runtime: "none".into(),
        limits: Limits::default(),
        unenforced: Vec::new(),
    }
}
