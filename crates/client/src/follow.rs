//! Following a session: server-sent events, resumed after each cut.

use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::{Event as Sse, Eventsource as _};
use futures::{Stream, StreamExt as _};
use protocol::event::{Event, LiveDelta};
use protocol::ids::{Seq, SessionId};
use tokio::time::Instant;

use crate::client::{Client, SILENCE};
use crate::error::ClientError;

/// The pause before each new connection: a server that hangs up at once is not asked in a loop.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a server may be away before following gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Followed {
    /// The next event; none is missed, none comes twice.
    Event(Box<Event>),
    /// Something to show at once.
    Live(LiveDelta),
    /// The session was deleted.
    Gone,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Sse, ()>> + Send>>;

/// A session that is followed.
pub struct Follow {
    client: Client,
    session: SessionId,
    last: Seq,
    frames: Option<Frames>,
    /// Since when the server is away.
    away: Option<Instant>,
}

impl Follow {
    pub(crate) fn new(client: Client, session: SessionId, after: Seq) -> Self {
        Self { client, session, last: after, frames: None, away: None }
    }

    /// The next thing; an error only when the server refuses or stays away for a minute. Nothing is
    /// lost when this is dropped before it is ready, but what it waits for begins anew.
    pub async fn next(&mut self) -> Result<Followed, ClientError> {
        loop {
            let Some(frames) = &mut self.frames else {
                self.connect().await?;
                continue;
            };
            let frame = match tokio::time::timeout(SILENCE, frames.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(()))) | Ok(None) | Err(_) => {
                    self.frames = None;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            self.away = None;
            if let Some(followed) = self.read(&frame) {
                return Ok(followed);
            }
        }
    }

    fn read(&mut self, frame: &Sse) -> Option<Followed> {
        match frame.event.as_str() {
            "event" => {
                let event: Event = serde_json::from_str(&frame.data).ok()?;
                if event.seq <= self.last {
                    return None;
                }
                self.last = event.seq;
                Some(Followed::Event(Box::new(event)))
            }
            "live" => serde_json::from_str(&frame.data).ok().map(Followed::Live),
            "gone" => Some(Followed::Gone),
            _ => None,
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        match self.client.open_stream(self.session, self.last).await {
            Ok(response) => {
                let frames = response.bytes_stream().eventsource().map(|frame| frame.map_err(drop));
                self.frames = Some(Box::pin(frames));
                Ok(())
            }
            Err(error @ ClientError::Unreachable { .. }) => {
                let since = *self.away.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
