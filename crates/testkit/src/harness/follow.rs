//! A client of server-sent events that can cut its own connection.

use std::pin::Pin;

use eventsource_stream::Eventsource as _;
use futures::{Stream, StreamExt as _};
use protocol::event::{Event, LiveDelta};
use protocol::ids::Seq;
use serde_json::Value;

use super::DEADLINE;
use super::must::Must as _;

/// How a stream is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// By the query.
    After(Seq),
    /// By the header that browsers send.
    LastEventId(Seq),
}

/// One frame of a stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its name.
    pub name: String,
    /// Its id, empty without one.
    pub id: String,
    /// Its data.
    pub data: Value,
}

impl Frame {
    /// The durable event in it, if it is one.
    ///
    /// # Panics
    /// When the data is no event, or the id is not its seq.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        if self.name != "event" {
            return None;
        }
        let event: Event = serde_json::from_value(self.data.clone()).must("an event");
        assert_eq!(self.id, event.seq.to_string(), "the frame's id is the seq");
        Some(event)
    }

    /// The live delta in it, if it is one.
    #[must_use]
    pub fn live(&self) -> Option<LiveDelta> {
        (self.name == "live").then(|| serde_json::from_value(self.data.clone()).must("a live delta"))
    }
}

/// An open stream; dropped, its connection is cut.
pub struct Follower {
    frames: Pin<Box<dyn Stream<Item = Option<Frame>> + Send>>,
}

impl Follower {
    /// Opens a stream; `None` when the server does not answer.
    ///
    /// # Panics
    /// When it answers something else.
    pub async fn open(request: reqwest::RequestBuilder) -> Option<Self> {
        let response = request.header("accept", "text/event-stream").send().await.ok()?;
        assert_eq!(response.status(), 200, "a stream");
        let frames = response.bytes_stream().eventsource().map(|frame| {
            let frame = frame.ok()?;
            let data = serde_json::from_str(&frame.data).ok()?;
            Some(Frame { name: frame.event, id: frame.id, data })
        });
        Some(Self { frames: Box::pin(frames) })
    }

    /// The next frame; `None` when the connection broke.
    ///
    /// # Panics
    /// When nothing comes, not even a ping.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(DEADLINE, self.frames.next()).await.must("a frame").flatten()
    }

    /// The next durable event; `None` when the connection broke.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.next().await?.event() {
                return Some(event);
            }
        }
    }

    /// Waits until a tool's live output shows a text.
    ///
    /// # Panics
    /// When the connection breaks first.
    pub async fn until_output(&mut self, wanted: &str) {
        let mut shown = String::new();
        loop {
            let frame = self.next().await.must("a stream that goes on");
            if let Some(LiveDelta::ToolOutput { text, .. }) = frame.live() {
                shown.push_str(&text);
            }
            if shown.contains(wanted) {
                return;
            }
            let over = frame.event().is_some_and(|event| event.body.kind() == "turn.ended");
            assert!(!over, "the turn ended without showing `{wanted}`: {shown}");
        }
    }
}
