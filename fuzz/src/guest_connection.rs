//! The guest's end of the wire: a connection whose host says anything.
//!
//! ```text
//!   input:  frames: u32 little-endian length │ content
//!             └─▶ a message? its paths go below a folder of ours, its programs become harmless ones
//!                 └── none: as it is
//! ```
//!
//! The guest signals every process there is, so this runs as process 1 of its own process namespace or
//! not at all. It must not panic, must answer each request once at the most, and must come to an end.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use guest::commands::Commands;
use guest::connection;
use guest::reaper::{self, Reaper};
use protocol::guest::{FromGuest, Request, ToGuest, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::LocalSet;

/// What commands become.
const HARMLESS: [&[&str]; 4] =
    [&["/bin/true"], &["/bin/cat"], &["/bin/echo", "a"], &["/nowhere/to/be/found"]];

/// Commands of one input, so that processes do not take all the time.
const MAX_COMMANDS: usize = 2;

/// More than everything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    assert_eq!(std::process::id(), 1, "this signals every process: run it in a process namespace");
    let folder = std::env::temp_dir().join("patchyard-fuzz");
    let _ = std::fs::remove_dir_all(&folder);
    if std::fs::create_dir_all(folder.join("d"))
        .and_then(|()| std::fs::write(folder.join("f"), "abc"))
        .is_err()
    {
        return;
    }
    let (said, asked) = tamed(data, &folder);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let outcome = LocalSet::new()
        .block_on(&runtime, async { tokio::time::timeout(PATIENCE, converse(said, asked)).await });
    assert!(outcome.is_ok(), "the connection never ended");
}

async fn converse(said: Vec<u8>, asked: HashSet<u64>) {
    let Ok((ours, theirs)) = UnixStream::pair() else { return };
    let Ok(signals) = reaper::listen() else { return };
    let reaper = Rc::new(Reaper::default());
    let reaping = tokio::task::spawn_local(reaper::run(Rc::clone(&reaper), signals));
    let commands = Rc::new(Commands::new(reaper, guest::ground::Ground::default()));
    let serving = {
        let commands = Rc::clone(&commands);
        tokio::task::spawn_local(async move {
            if let Ok(greeted) = connection::greet(theirs).await {
                let _ = connection::serve(greeted, commands).await;
            }
        })
    };
    let (mut reader, mut writer) = ours.into_split();
    let hear = async {
        let mut heard = Vec::new();
        let _ = reader.read_to_end(&mut heard).await;
        heard
    };
    let say = async {
        let _ = writer.write_all(&said).await;
        let _ = writer.shutdown().await;
    };
    let (heard, ()) = tokio::join!(hear, say);
    let served = serving.await;
    assert!(served.is_ok(), "{served:?}");
    check(&heard, asked);
    commands.kill_all().await;
    reaping.abort();
}

/// Whole messages only, and no answer without its question.
fn check(mut heard: &[u8], mut asked: HashSet<u64>) {
    while let Some((header, rest)) = heard.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        // The connection may end within a frame.
        let Some((content, rest)) = rest.split_at_checked(length) else { return };
        match decode::<FromGuest>(content) {
            Ok(FromGuest::Reply { id, .. }) => assert!(asked.remove(&id), "an answer to no question"),
            Ok(_) => {}
            Err(error) => panic!("the guest sent {error}"),
        }
        heard = rest;
    }
}

/// The input with whatever could do harm made harmless, and the ids of its requests. Of equal ids only
/// the first is a question.
fn tamed(mut data: &[u8], folder: &Path) -> (Vec<u8>, HashSet<u64>) {
    let (mut said, mut asked, mut commands) = (Vec::new(), HashSet::new(), 0);
    while let Some((header, rest)) = data.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        let Some((content, rest)) = rest.split_at_checked(length) else {
            // Announces more than comes: nothing of it is ever read as a message.
            said.extend(data);
            break;
        };
        data = rest;
        match decode::<ToGuest>(content) {
            Ok(ToGuest::Request { id, mut request }) => {
                if asked.contains(&id) || !tame(&mut request, folder, &mut commands) {
                    continue;
                }
                asked.insert(id);
                said.extend(encode(&ToGuest::Request { id, request }).unwrap_or_default());
            }
            Ok(message) => said.extend(encode(&message).unwrap_or_default()),
            Err(_) => said.extend([header, content].concat()),
        }
    }
    (said, asked)
}

/// Whether this may be asked, changed so that it does no harm.
fn tame(request: &mut Request, folder: &Path, commands: &mut usize) -> bool {
    match request {
        Request::Start(spec) => {
            *commands += 1;
            let which = spec.argv.first().map_or(0, String::len);
            let harmless = HARMLESS[which % HARMLESS.len()].iter().map(|word| (*word).to_owned());
            spec.argv = if spec.argv.is_empty() { Vec::new() } else { harmless.collect() };
            spec.cwd = if spec.cwd.len() % 2 == 0 { "/".into() } else { below(folder, &spec.cwd) };
            spec.timeout = Some(spec.timeout.unwrap_or_default().min(Duration::from_millis(5)));
            *commands <= MAX_COMMANDS
        }
        Request::ReadFile { path, .. }
        | Request::WriteFile { path, .. }
        | Request::Stat { path }
        | Request::List { path } => {
            if path.starts_with('/') {
                *path = below(folder, path);
            }
            true
        }
        Request::Resize { .. }
        | Request::Signal { .. }
        | Request::KillAll
        | Request::KillUnkept
        | Request::Attach { .. }
        | Request::Release { .. } => true,
    }
}

fn below(folder: &Path, path: &str) -> String {
    let kept = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    format!("{}/{}", folder.display(), kept.collect::<PathBuf>().display())
}
