//! Guests that lie: a listener of ours in their place.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use protocol::attachment::Attachment;
use protocol::guest::{
    FromGuest, Hello, INITIAL_CREDIT, MAX_CHUNK, Reply, Request, ToGuest, WIRE_VERSION, decode, encode,
};
use protocol::hands::{DirEntry, ExecEnd, ExecEvent, FileChunk, FileKind, Hands, HandsError};
use protocol::ids::ExecId;
use protocol::sandbox_host::Made;
use protocol::sandbox_spec::{Limits, Tier};
use sandbox::guest_link::GuestLink;
use tempfile::TempDir;

use crate::world::{exec_id, listen, sandbox_id, session_id, shell};

/// A guest that does what a test says. Dropped, its folder goes.
struct Liar {
    made: Made,
    _folder: TempDir,
}

impl Liar {
    /// Answers one connection by this program.
    fn start(program: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let guest_socket = folder.path().join("guest.sock");
        let listener = UnixListener::bind(&guest_socket).unwrap();
        std::thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                program(stream);
            }
        });
        Self {
            made: Made {
                attachment: Attachment {
                    session: Some(session_id()),
                    sandbox: sandbox_id(),
                    guest_socket: Some(guest_socket),
                },
                tier: Tier::Container,
                runtime: "none".into(),
                limits: Limits::default(),
                unenforced: Vec::new(),
            },
            _folder: folder,
        }
    }

    /// Says hello as it should, then runs the program.
    fn polite(program: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        Self::start(move |mut stream| {
            assert!(matches!(hear(&mut stream), Some(ToGuest::Hello(_))));
            say(&mut stream, &hello());
            program(stream);
        })
    }

    async fn link(&self) -> Result<GuestLink, HandsError> {
        tokio::time::timeout(Duration::from_secs(20), GuestLink::connect(&self.made)).await.unwrap()
    }
}

fn hello() -> FromGuest {
    FromGuest::Hello(Hello { version: WIRE_VERSION, capabilities: Vec::new() })
}

fn say(stream: &mut UnixStream, message: &FromGuest) {
    // The other end may have had enough already.
    let _ = stream.write_all(&encode(message).unwrap());
}

fn hear(stream: &mut UnixStream) -> Option<ToGuest> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut content = vec![0; u32::from_le_bytes(header) as usize];
    stream.read_exact(&mut content).ok()?;
    Some(decode(&content).unwrap())
}

/// Hears one start and says that it is done.
fn begin(stream: &mut UnixStream) -> ExecId {
    let Some(ToGuest::Request { id, request: Request::Start(spec) }) = hear(stream) else { panic!() };
    say(stream, &FromGuest::Reply { id, reply: Ok(Reply::Done) });
    spec.exec
}

/// Holds the connection until the other end is gone.
fn linger(mut stream: UnixStream) {
    while hear(&mut stream).is_some() {}
}

fn is_gone<T>(outcome: &Result<T, HandsError>) -> bool {
    matches!(outcome, Err(HandsError::Gone(_)))
}

#[tokio::test]
async fn a_bad_greeting_is_an_error_at_once() {
    let greetings: [Vec<u8>; 6] = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        u32::MAX.to_le_bytes().to_vec(),
        vec![0, 0, 0, 0],
        vec![3, 0, 0, 0, 255, 255, 255],
        encode(&FromGuest::Reply { id: 1, reply: Ok(Reply::Done) }).unwrap(),
        encode(&FromGuest::Hello(Hello { version: WIRE_VERSION + 1, capabilities: Vec::new() })).unwrap(),
    ];
    for greeting in greetings {
        let liar = Liar::start(move |mut stream| {
            let _ = stream.write_all(&greeting);
            linger(stream);
        });
        assert!(is_gone(&liar.link().await));
    }
    let absent = Liar::start(drop);
    assert!(is_gone(&absent.link().await));
}

#[tokio::test(start_paused = true)]
async fn silence_instead_of_a_greeting_ends_by_itself() {
    let liar = Liar::start(linger);
    let link = GuestLink::connect(&liar.made).await;
    assert!(is_gone(&link));
}

#[tokio::test]
async fn lies_end_the_link_and_every_call_on_it() {
    type Lie = fn(&mut UnixStream, ExecId);
    let lies: [(&str, Lie); 12] = [
        ("a second hello", |stream, _| say(stream, &hello())),
        ("an answer to no question", |stream, _| {
            say(stream, &FromGuest::Reply { id: 999, reply: Ok(Reply::Done) });
        }),
        ("the same answer again", |stream, _| {
            say(stream, &FromGuest::Reply { id: 1, reply: Ok(Reply::Done) });
        }),
        ("output of a stranger", |stream, _| {
            say(stream, &FromGuest::Output { exec: exec_id(), stderr: false, bytes: vec![0] });
        }),
        ("the end of a stranger", |stream, _| {
            say(stream, &FromGuest::Exited { exec: exec_id(), end: ExecEnd::default() });
        }),
        ("empty output", |stream, exec| {
            say(stream, &FromGuest::Output { exec, stderr: false, bytes: Vec::new() });
        }),
        ("output beyond the credit", |stream, exec| {
            for _ in 0..=INITIAL_CREDIT as usize / MAX_CHUNK {
                say(stream, &FromGuest::Output { exec, stderr: true, bytes: vec![7; MAX_CHUNK] });
            }
        }),
        ("input taken that was not given", |stream, exec| {
            say(stream, &FromGuest::StdinTaken { exec, bytes: 1 });
        }),
        ("output after the end", |stream, exec| {
            say(stream, &FromGuest::Exited { exec, end: ExecEnd::default() });
            say(stream, &FromGuest::Output { exec, stderr: false, bytes: vec![0] });
        }),
        ("a huge frame", |stream, _| drop(stream.write_all(&u32::MAX.to_le_bytes()))),
        ("no message", |stream, _| drop(stream.write_all(&[2, 0, 0, 0, 250, 250]))),
        ("a cut frame", |stream, _| {
            let _ = stream.write_all(&[9, 0, 0, 0, 1]);
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }),
    ];
    for (name, lie) in lies {
        let liar = Liar::polite(move |mut stream| {
            let exec = begin(&mut stream);
            lie(&mut stream, exec);
            linger(stream);
        });
        let link = liar.link().await.unwrap();
        let mut spec = shell("true");
        spec.stdin = true;
        let mut command = link.start(spec).await.unwrap();
        let reason = tokio::time::timeout(Duration::from_secs(10), link.closed()).await.expect(name);
        assert!(!reason.is_empty());
        loop {
            match command.next().await {
                Ok(ExecEvent::Exited(_)) => break,
                Ok(_) => {}
                outcome => {
                    assert!(is_gone(&outcome), "{name}: {outcome:?}");
                    break;
                }
            }
        }
        assert!(is_gone(&link.stat("/").await), "{name}");
        assert!(is_gone(&link.kill_all().await), "{name}");
        assert!(is_gone(&link.start(shell("true")).await.map(drop)), "{name}");
    }
}

#[tokio::test]
async fn answers_to_other_questions_end_the_link() {
    fn answer(liar_says: fn() -> Reply) -> Liar {
        Liar::polite(move |mut stream| {
            let Some(ToGuest::Request { id, .. }) = hear(&mut stream) else { panic!() };
            say(&mut stream, &FromGuest::Reply { id, reply: Ok(liar_says()) });
            linger(stream);
        })
    }
    let liar = answer(|| Reply::Done);
    assert!(is_gone(&liar.link().await.unwrap().read_file("/x", 0, 5).await));
    let liar = answer(|| Reply::Chunk(FileChunk { bytes: vec![0; 6], size: 6 }));
    assert!(is_gone(&liar.link().await.unwrap().read_file("/x", 0, 5).await));
    for name in ["../../etc/passwd", "..", "", "a\0b"] {
        let liar = Liar::polite(move |mut stream| {
            let Some(ToGuest::Request { id, .. }) = hear(&mut stream) else { panic!() };
            let entry = DirEntry { name: name.to_owned(), kind: FileKind::File };
            say(&mut stream, &FromGuest::Reply { id, reply: Ok(Reply::Entries(vec![entry])) });
            linger(stream);
        });
        assert!(is_gone(&liar.link().await.unwrap().list("/x").await), "{name}");
    }
}

#[tokio::test]
async fn a_guest_cannot_say_that_it_is_gone_nor_talk_for_ever() {
    let liar = Liar::polite(|mut stream| {
        for _ in 0..2 {
            let Some(ToGuest::Request { id, .. }) = hear(&mut stream) else { panic!() };
            let error = if id == 1 {
                HandsError::Gone("x".into())
            } else {
                HandsError::Limit("\u{1b}[31m".repeat(100_000))
            };
            say(&mut stream, &FromGuest::Reply { id, reply: Err(error) });
        }
        linger(stream);
    });
    let link = liar.link().await.unwrap();
    assert!(matches!(link.stat("/").await, Err(HandsError::Io { .. })));
    let Err(HandsError::Limit(words)) = link.stat("/").await else { panic!() };
    assert!(words.len() <= 4096 && !words.contains('\u{1b}'));
}

#[tokio::test]
async fn a_question_without_an_answer_ends_the_link() {
    let liar = Liar::polite(linger);
    let link = liar.link().await.unwrap();
    tokio::time::pause();
    assert!(is_gone(&link.stat("/").await));
    link.closed().await;
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_is_killed() {
    let (heard, hears) = std::sync::mpsc::channel();
    let liar = Liar::polite(move |mut stream| {
        let Some(ToGuest::Request { request: Request::Start(spec), .. }) = hear(&mut stream) else {
            panic!()
        };
        heard.send(None).unwrap();
        loop {
            if let Some(ToGuest::Request { request: Request::Signal { exec, signal }, .. }) =
                hear(&mut stream)
            {
                heard.send(Some((exec == spec.exec, signal))).unwrap();
                return;
            }
        }
    });
    let link = liar.link().await.unwrap();
    let starting = tokio::spawn({
        let link = link.clone();
        async move { link.start(shell("true")).await.map(drop) }
    });
    let hears = tokio::task::spawn_blocking(move || {
        assert!(hears.recv().unwrap().is_none());
        hears
    })
    .await
    .unwrap();
    starting.abort();
    let _ = starting.await;
    let killed = tokio::task::spawn_blocking(move || hears.recv().unwrap()).await.unwrap();
    assert_eq!(killed, Some((true, protocol::hands::ExecSignal::Kill)));
}

#[tokio::test]
async fn what_was_said_before_the_end_can_still_be_taken() {
    let liar = Liar::polite(|mut stream| {
        let exec = begin(&mut stream);
        for stderr in [false, true, false] {
            say(&mut stream, &FromGuest::Output { exec, stderr, bytes: b"ab".to_vec() });
        }
        say(&mut stream, &FromGuest::Exited { exec, end: ExecEnd { code: Some(3), ..ExecEnd::default() } });
    });
    let link = liar.link().await.unwrap();
    let mut command = link.start(shell("true")).await.unwrap();
    link.closed().await;
    let said = listen(&mut *command).await;
    assert_eq!((said.out().as_str(), &*said.stderr, said.end.code), ("abab", &b"ab"[..], Some(3)));
}

/// A flood of the smallest messages there are is read at a pace, and nobody else waits for it.
#[tokio::test]
async fn a_flood_of_messages_is_slowed_down_and_hurts_nobody_else() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let said = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&said);
    let liar = Liar::polite(move |mut stream| {
        // Input taken by a command that is over: allowed, and worth nothing.
        let message = encode(&FromGuest::StdinTaken { exec: exec_id(), bytes: 1 }).unwrap();
        let many = message.repeat(100);
        while stream.write_all(&many).is_ok() {
            counted.fetch_add(100, Ordering::Relaxed);
        }
    });
    let neighbour = Liar::polite(|mut stream| {
        while let Some(ToGuest::Request { id, .. }) = hear(&mut stream) {
            say(&mut stream, &FromGuest::Reply { id, reply: Err(HandsError::NotFound { path: "/".into() }) });
        }
    });
    let (flood, other) = (liar.link().await.unwrap(), neighbour.link().await.unwrap());
    let begun = std::time::Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < Duration::from_millis(1_500) {
        assert!(matches!(other.stat("/").await, Err(HandsError::NotFound { .. })));
        rounds += 1;
    }
    // The burst, the rate, and what lies in the socket's buffers.
    let allowed = 20_000.0 + 20_000.0 * begun.elapsed().as_secs_f64() + 20_000.0;
    let said = said.load(Ordering::Relaxed);
    assert!((1_000..allowed as u64).contains(&said), "{said} of {allowed}");
    assert!(rounds > 100, "{rounds}");
    drop(flood);
}

/// Who does not read makes the host keep what it says: so much and no more.
#[tokio::test]
async fn a_guest_that_does_not_read_is_given_up() {
    let liar = Liar::polite(|mut stream| {
        let exec = begin(&mut stream);
        // Each of these is answered by a credit that nobody reads.
        let output = encode(&FromGuest::Output { exec, stderr: false, bytes: vec![7; 128 * 1024] }).unwrap();
        while stream.write_all(&output).is_ok() {}
    });
    let link = liar.link().await.unwrap();
    drop(link.start(shell("true")).await.unwrap());
    let reason = tokio::time::timeout(Duration::from_secs(60), link.closed()).await.unwrap();
    assert!(reason.contains("does not read"), "{reason}");
}
