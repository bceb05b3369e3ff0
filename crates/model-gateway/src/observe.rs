//! What a caller sees of a request while it runs.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::ModelError;

/// A piece of the answer, for display. `block` counts within the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delta<'a> {
    /// More text.
    Text { block: u32, text: &'a str },
    /// More thinking.
    Thinking { block: u32, text: &'a str },
}

/// A failed try that will be repeated. All deltas since the last one of these are void.
#[derive(Debug)]
pub struct Retry<'a> {
    /// Why it failed.
    pub error: &'a ModelError,
    /// The failed try, from 1.
    pub attempt: u32,
    /// How long until the next.
    pub delay: Duration,
}

/// Watches a request.
#[async_trait]
pub trait Observer: Send {
    /// A piece arrived.
    fn delta(&mut self, delta: Delta<'_>);

    /// An event of the stream, as it came.
    fn event(&mut self, _data: &str) {}

    /// A try failed; the wait begins when this returns.
    async fn retry(&mut self, retry: Retry<'_>);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

#[async_trait]
impl Observer for Silent {
    fn delta(&mut self, _delta: Delta<'_>) {}

    async fn retry(&mut self, _retry: Retry<'_>) {}
}
