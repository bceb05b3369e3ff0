//! Server-sent events: one stream per tab for the list and the open session, and the stream of one
//! session for terminals.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse as _, Response};
use futures::stream::{self, Stream};
use protocol::ids::{Seq, SessionId};
use protocol::problem::Problem;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::feed::{Frame, PageFeed, SessionFeed};
use crate::reply::{Params, Reply};
use crate::state::AppState;

/// Proxies and browsers give up on silence; scripts want to see life too.
const PING: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
pub(crate) struct StreamParams {
    session: Option<SessionId>,
    after: Option<Seq>,
}

/// The stream of a page: `hello`, `session` with every change of a session's view, `gone`, `resync`,
/// `ping`, and for the session that is named `event` (with `id: SEQ`) and `live`.
#[utoipa::path(get, path = "/stream", tag = "events", params(
    ("session" = Option<String>, Query, description = "The open session"),
    ("after" = Option<u64>, Query, description = "Its events after this seq"),
), responses((status = 200, content_type = "text/event-stream"), (status = 404, body = Problem)))]
pub(crate) async fn stream(
    State(state): State<AppState>,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
) -> Result<Response, Reply> {
    let all = state.store.subscribe_all();
    let session = match params.session {
        None => None,
        Some(session) => {
            let after = params.after.or_else(|| last_event_id(&headers)).unwrap_or(0);
            Some(SessionFeed::open(&state.store, session, after).await?)
        }
    };
    let source = Source::Page(PageFeed { all, session });
    Ok(answer(frames(source, state.stopping.clone())))
}

/// The stream of one session.
pub(crate) fn session_stream(state: AppState, feed: SessionFeed) -> Response {
    answer(frames(Source::Session(feed), state.stopping))
}

/// Where a client was when it lost its stream.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<Seq> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

enum Source {
    Page(PageFeed),
    Session(SessionFeed),
}

impl Source {
    async fn next(&mut self) -> Option<Frame> {
        match self {
            Self::Page(feed) => feed.next().await,
            Self::Session(feed) => feed.next().await,
        }
    }
}

struct Streaming {
    source: Source,
    stopping: CancellationToken,
    ping: Interval,
    greeted: bool,
}

fn frames(source: Source, stopping: CancellationToken) -> impl Stream<Item = Result<Sse, Infallible>> + Send {
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Streaming { source, stopping, ping, greeted: false };
    stream::unfold(start, |mut streaming| async move {
        if !streaming.greeted {
            streaming.greeted = true;
            let hello =
                serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "build": crate::assets::build() });
            return Some((Ok(data("hello", &hello)), streaming));
        }
        let frame = tokio::select! {
            biased;
            () = streaming.stopping.cancelled() => return None,
            frame = streaming.source.next() => encode(&frame?),
            _ = streaming.ping.tick() => Sse::default().event("ping").data("{}"),
        };
        Some((Ok(frame), streaming))
    })
}

fn encode(frame: &Frame) -> Sse {
    match frame {
        Frame::Event(event) => data("event", event).id(event.seq.to_string()),
        Frame::Live(delta) => data("live", delta),
        Frame::Session(view) => data("session", view),
        Frame::Gone(session) => data("gone", &protocol::api::SessionGone { session: *session }),
        Frame::Resync => Sse::default().event("resync").data("{}"),
    }
}

fn data(name: &str, value: &impl Serialize) -> Sse {
    let sse = Sse::default().event(name);
    match serde_json::to_string(value) {
        Ok(json) => sse.data(json),
        // Our own types always serialise; a viewer that sees this reads the log again.
        Err(_) => Sse::default().event("resync").data("{}"),
    }
}

fn answer(frames: impl Stream<Item = Result<Sse, Infallible>> + Send + 'static) -> Response {
    let sse = axum::response::Sse::new(frames).keep_alive(KeepAlive::new().interval(PING));
    let mut response = sse.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Tells nginx and its like not to collect the stream.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
