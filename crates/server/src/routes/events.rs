//! A session's log: pages and a stream.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use protocol::api::EventPage;
use protocol::ids::{Seq, SessionId};
use protocol::problem::Problem;
use serde::Deserialize;

use super::stream::{self, last_event_id};
use crate::feed::SessionFeed;
use crate::reply::{Id, Params, Reply};
use crate::state::AppState;

/// Events on one page at most.
const MAX_PAGE: usize = 1000;

#[derive(Debug, Deserialize)]
pub(crate) struct EventParams {
    after: Option<Seq>,
    before: Option<Seq>,
    tail: Option<usize>,
    limit: Option<usize>,
}

/// Events of a session: as JSON, or with `Accept: text/event-stream` as a stream that goes on. A
/// stream's frames have `id: SEQ`; `Last-Event-ID` or `after` resumes it without gap or repetition.
#[utoipa::path(get, path = "/sessions/{session}/events", tag = "events", params(
    ("session" = SessionId, Path),
    ("after" = Option<u64>, Query, description = "Only events after this seq"),
    ("before" = Option<u64>, Query, description = "The newest events before this seq"),
    ("tail" = Option<usize>, Query, description = "The newest so many events"),
    ("limit" = Option<usize>, Query, description = "At most so many, 200 by default, 1000 at most"),
), responses((status = 200, body = EventPage), (status = 404, body = Problem)))]
pub(crate) async fn list_events(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> Result<Response, Reply> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        let after = params.after.or_else(|| last_event_id(&headers)).unwrap_or(0);
        let feed = SessionFeed::open(&state.store, session, after).await?;
        return Ok(stream::session_stream(state, feed));
    }
    let limit = params.limit.unwrap_or(200).clamp(1, MAX_PAGE);
    let (after, limit) = match (params.after, params.before, params.tail) {
        (Some(after), _, _) => (after, limit),
        (None, Some(before), _) => {
            let before = before.saturating_sub(1);
            let from = before.saturating_sub(limit as u64);
            (from, usize::try_from(before - from).unwrap_or(limit))
        }
        (None, None, Some(tail)) => {
            let tail = tail.clamp(1, MAX_PAGE);
            let head = state.store.session(session).await?.last_seq;
            (head.saturating_sub(tail as u64), MAX_PAGE)
        }
        (None, None, None) => (0, limit),
    };
    let (events, last_seq) = state.store.events(session, after, limit).await?;
    Ok(Json(EventPage { events, last_seq }).into_response())
}
