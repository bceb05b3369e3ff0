//! One connection of a host.
//!
//! ```text
//!   accepted ── hello both ways ──▶ serving ── closed, replaced or damaged ──▶ gone
//!      └── no hello in time ──▶ gone          commands go on, their output waits in their pipes or
//!                                             their journals
//! ```

use std::io;
use std::rc::Rc;

use protocol::guest::{
    FrameError, FromGuest, HELLO_TIMEOUT, Hello, Reply, Request, ToGuest, WIRE_VERSION, decode, encode,
    frame_length,
};
use protocol::hands::HandsError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::commands::{Commands, InputOverrun};
use crate::files::Files;

/// Frames that may wait for the socket: what does not fit waits where it came from.
const WAITING_FRAMES: usize = 8;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The socket failed or was closed.
    #[error("the connection to the host ended")]
    Socket(#[from] io::Error),
    /// The bytes were no message.
    #[error("the host sent something that is no message")]
    Frame(#[from] FrameError),
    /// The first message was not a hello, or a hello came twice.
    #[error("the host did not keep the order of messages")]
    Order,
    /// No hello within the time.
    #[error("the host did not say hello in time")]
    Silent,
    /// The host did not keep to its allowance.
    #[error(transparent)]
    Input(#[from] InputOverrun),
}

/// Where messages to the host go; cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox(mpsc::Sender<Vec<u8>>);

impl Outbox {
    /// Queues a message; waits while the queue is full; drops it when the host is gone.
    pub async fn send(&self, message: &FromGuest) {
        // Every message is made to fit; a reply that does not is a fault of ours that the host sees
        // as a missing answer.
        if let Ok(frame) = encode(message) {
            let _ = self.0.send(frame).await;
        }
    }

    /// Whether the host is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until the host is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A connection on which both sides said hello.
#[derive(Debug)]
pub struct Greeted {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

/// Says and hears hello.
pub async fn greet(stream: UnixStream) -> Result<Greeted, ConnectionError> {
    let (mut reader, mut writer) = stream.into_split();
    let hello = timeout(HELLO_TIMEOUT, receive(&mut reader)).await.map_err(|_| ConnectionError::Silent)??;
    let ToGuest::Hello(theirs) = hello else { return Err(ConnectionError::Order) };
    let ours = Hello { version: WIRE_VERSION.min(theirs.version), capabilities: Vec::new() };
    writer.write_all(&encode(&FromGuest::Hello(ours))?).await?;
    Ok(Greeted { reader, writer })
}

/// Serves a greeted connection to its end.
pub async fn serve(greeted: Greeted, commands: Rc<Commands>) -> Result<(), ConnectionError> {
    let Greeted { mut reader, writer } = greeted;
    let (sender, frames) = mpsc::channel(WAITING_FRAMES);
    let outbox = Outbox(sender);
    let mut files = Files::default();
    // Ends both halves together, and with them the queue: that is how commands learn of it.
    tokio::select! {
        outcome = write_all(writer, frames) => outcome,
        outcome = read_all(&mut reader, &commands, &outbox, &mut files) => outcome,
    }
}

async fn write_all(
    mut writer: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> Result<(), ConnectionError> {
    while let Some(frame) = frames.recv().await {
        writer.write_all(&frame).await?;
    }
    Ok(())
}

async fn read_all(
    reader: &mut OwnedReadHalf,
    commands: &Rc<Commands>,
    outbox: &Outbox,
    files: &mut Files,
) -> Result<(), ConnectionError> {
    loop {
        match receive(reader).await? {
            ToGuest::Hello(_) => return Err(ConnectionError::Order),
            ToGuest::Credit { exec, bytes } => commands.credit(exec, bytes),
            ToGuest::Stdin { exec, bytes } => commands.input(exec, bytes)?,
            ToGuest::Request { id, request } => answer(id, request, commands, outbox, files).await,
        }
    }
}

async fn answer(id: u64, request: Request, commands: &Rc<Commands>, outbox: &Outbox, files: &mut Files) {
    let reply: Result<Reply, HandsError> = match request {
        // The reply is queued before the command's pump runs for the first time, so before its output.
        Request::Start(spec) => commands.start(&spec, outbox).map(|()| Reply::Done),
        Request::Attach { exec } => commands.attach(exec, outbox).map(|()| Reply::Done),
        Request::Release { exec } => {
            commands.release(exec);
            Ok(Reply::Done)
        }
        Request::Resize { exec, size } => commands.resize(exec, size).map(|()| Reply::Done),
        // Killing may take a while, and the host may want other things meanwhile.
        Request::Signal { exec, signal } => {
            let (commands, outbox) = (Rc::clone(commands), outbox.clone());
            tokio::task::spawn_local(async move {
                let reply = commands.signal(exec, signal).await.map(|()| Reply::Done);
                outbox.send(&FromGuest::Reply { id, reply }).await;
            });
            return;
        }
        Request::KillAll | Request::KillUnkept => {
            let (commands, outbox) = (Rc::clone(commands), outbox.clone());
            let kept_too = matches!(request, Request::KillAll);
            tokio::task::spawn_local(async move {
                match kept_too {
                    true => commands.kill_all().await,
                    false => commands.kill_unkept().await,
                }
                outbox.send(&FromGuest::Reply { id, reply: Ok(Reply::Done) }).await;
            });
            return;
        }
        Request::ReadFile { path, offset, limit } => files.read(&path, offset, limit).map(Reply::Chunk),
        Request::WriteFile { path, offset, bytes, last } => {
            files.write(&path, offset, &bytes, last).map(|()| Reply::Done)
        }
        Request::Stat { path } => Files::stat(&path).map(Reply::Stat),
        Request::List { path } => Files::list(&path).map(Reply::Entries),
    };
    outbox.send(&FromGuest::Reply { id, reply }).await;
}

async fn receive(reader: &mut OwnedReadHalf) -> Result<ToGuest, ConnectionError> {
    let mut header = [0; 4];
    reader.read_exact(&mut header).await?;
    let mut content = vec![0; frame_length(header)?];
    reader.read_exact(&mut content).await?;
    Ok(decode(&content)?)
}
