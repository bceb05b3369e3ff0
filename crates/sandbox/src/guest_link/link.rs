//! The handle.

use std::sync::Arc;

use protocol::guest::{
    FromGuest, HELLO_TIMEOUT, Hello, OLDEST_WIRE_VERSION, Reply, Request, ToGuest, WIRE_VERSION, encode,
};
use protocol::hands::HandsError;
use protocol::sandbox_host::Made;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::counters::Counters;
use super::shared::Shared;
use super::wire::{LinkError, receive};
use crate::sockets;

/// A link to a guest; cheap to clone. It ends with its last handle and last execution, or when the
/// guest's end does; what runs in the sandbox goes on.
#[derive(Debug, Clone)]
pub struct GuestLink(Arc<Handle>);

/// Ends the link when nobody holds it any more.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.die("the link was closed");
    }
}

impl GuestLink {
    /// Connects to the socket of a guest and exchanges hellos. An earlier link to it ends by this.
    pub async fn connect(made: &Made) -> Result<Self, HandsError> {
        let socket = made.attachment.guest_socket.as_deref();
        let socket = socket.ok_or_else(|| HandsError::Gone("its guest has no socket of ours".into()))?;
        let connected = sockets::connect(socket).and_then(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        Self::over(made, connected.map_err(|error| HandsError::Gone(LinkError::from(error).to_string()))?)
            .await
    }

    /// Exchanges hellos over a connection to a guest.
    pub async fn over(made: &Made, connection: UnixStream) -> Result<Self, HandsError> {
        Self::greeted(connection, Counters::of(made.attachment.sandbox, made.limits)).await
    }

    /// Exchanges hellos with the hands of a local agent, which are no sandbox and have no limits of ours.
    pub async fn to_machine(connection: UnixStream) -> Result<Self, HandsError> {
        Self::greeted(connection, Counters::none()).await
    }

    async fn greeted(connection: UnixStream, counters: Counters) -> Result<Self, HandsError> {
        let greeted = timeout(HELLO_TIMEOUT, greet(connection)).await;
        let (reader, writer) = match greeted {
            Ok(Ok(halves)) => halves,
            Ok(Err(error)) => return Err(HandsError::Gone(error.to_string())),
            Err(_) => {
                let seconds = HELLO_TIMEOUT.as_secs();
                return Err(HandsError::Gone(format!("it did not say hello within {seconds} s")));
            }
        };
        let shared = Shared::start(reader, writer, counters);
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Kills every process of the sandbox but the guest; returns once they are dead.
    pub async fn kill_all(&self) -> Result<(), HandsError> {
        let reply = self.shared().request(Request::KillAll).await?;
        self.done(&reply)
    }

    /// Kills the commands that nobody can attach to, of whoever was linked before; returns once they are
    /// dead.
    pub async fn kill_unkept(&self) -> Result<(), HandsError> {
        let reply = self.shared().request(Request::KillUnkept).await?;
        self.done(&reply)
    }

    /// Ends the link for a reason of the caller's.
    pub fn give_up(&self, reason: &str) {
        self.shared().die(reason);
    }

    /// Waits until the link is dead, and says why: the sandbox ended, the guest broke the rules, or
    /// another link took its place.
    pub async fn closed(&self) -> String {
        self.shared().closed().await
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// Accepts an answer that says nothing but that it is done.
    pub(super) fn done(&self, reply: &Reply) -> Result<(), HandsError> {
        match reply {
            Reply::Done => Ok(()),
            _ => Err(self.off_topic()),
        }
    }

    /// The guest answered another question than it was asked.
    pub(super) fn off_topic(&self) -> HandsError {
        self.shared().broken("it broke the rules: an answer to another question")
    }
}

async fn greet(connection: UnixStream) -> Result<(OwnedReadHalf, OwnedWriteHalf), LinkError> {
    let (mut reader, mut writer) = connection.into_split();
    let hello = Hello { version: WIRE_VERSION, capabilities: Vec::new() };
    writer.write_all(&encode(&ToGuest::Hello(hello))?).await?;
    match receive(&mut reader).await? {
        FromGuest::Hello(Hello { version: OLDEST_WIRE_VERSION..=WIRE_VERSION, .. }) => Ok((reader, writer)),
        FromGuest::Hello(_) => Err(LinkError::Rules("it speaks no version that we know")),
        _ => Err(LinkError::Rules("something came before the hello")),
    }
}
