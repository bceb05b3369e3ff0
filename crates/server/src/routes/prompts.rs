//! What the person says to a session.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use protocol::api::{AnswerQuestion, CreatePrompt, PromptAccepted};
use protocol::ids::{QuestionId, SessionId};
use protocol::problem::Problem;

use super::idempotency;
use crate::reply::{Body, Id, Reply};
use crate::state::AppState;

/// Queues a prompt; durable when this answers.
#[utoipa::path(post, path = "/sessions/{session}/prompts", tag = "prompts", request_body = CreatePrompt, params(
    ("session" = SessionId, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "The same key queues one prompt"),
), responses(
    (status = 202, body = PromptAccepted),
    (status = 404, body = Problem),
    (status = 413, description = "Over 64,000 characters", body = Problem),
    (status = 429, description = "Ten prompts wait", body = Problem),
))]
pub(crate) async fn create_prompt(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    headers: HeaderMap,
    Body(body): Body<CreatePrompt>,
) -> Result<(StatusCode, Json<PromptAccepted>), Reply> {
    let key = idempotency(&headers, &format!("{session} prompts"), &body)?;
    let accepted = state.sessions.prompt(session, body.text, key).await?;
    let (prompt, seq) = accepted.answer;
    Ok((StatusCode::ACCEPTED, Json(PromptAccepted { prompt, seq })))
}

/// Answers an open question.
#[utoipa::path(post, path = "/sessions/{session}/questions/{question}", tag = "prompts",
    request_body = AnswerQuestion, params(("session" = SessionId, Path), ("question" = QuestionId, Path)), responses(
    (status = 204, description = "Answered"),
    (status = 400, description = "None of the options", body = Problem),
    (status = 409, description = "Not open any more", body = Problem),
))]
pub(crate) async fn answer_question(
    State(state): State<AppState>,
    Id((session, question)): Id<(SessionId, QuestionId)>,
    Body(body): Body<AnswerQuestion>,
) -> Result<StatusCode, Reply> {
    state.sessions.handle(session).await?.answer(question, body.option).await?;
    Ok(StatusCode::NO_CONTENT)
}
