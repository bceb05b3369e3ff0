//! What the person says to a session.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use protocol::api::{AnswerQuestion, CreatePrompt, EditPrompt, PromptAccepted, QueuedPrompts};
use protocol::ids::{PromptId, QuestionId, SessionId};
use protocol::problem::Problem;
use protocol::prompt::QueuedPrompt;

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
    (status = 409, description = "The key stands for another prompt", body = Problem),
    (status = 429, description = "Ten prompts wait", body = Problem),
))]
pub(crate) async fn create_prompt(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    headers: HeaderMap,
    Body(body): Body<CreatePrompt>,
) -> Result<(StatusCode, Json<PromptAccepted>), Reply> {
    let key = idempotency(&headers, &format!("{session} prompts"), &body)?;
    let accepted = state.sessions.prompt(session, body.text, body.delivery, key).await?;
    let (prompt, seq) = accepted.answer;
    Ok((StatusCode::ACCEPTED, Json(PromptAccepted { prompt, seq })))
}

/// The prompts that wait, in the order in which turns begin with them.
#[utoipa::path(get, path = "/sessions/{session}/prompts", tag = "prompts", params(("session" = SessionId, Path)),
    responses((status = 200, body = QueuedPrompts), (status = 404, body = Problem)))]
pub(crate) async fn list_prompts(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<QueuedPrompts>, Reply> {
    // A session at rest needs nobody to be asked.
    let prompts = match state.store.session(session).await?.queued_prompts {
        0 => Vec::new(),
        _ => state.sessions.handle(session).await?.queue().await?,
    };
    Ok(Json(QueuedPrompts { prompts }))
}

/// Changes a prompt that waits: its text, or when it is handed over.
#[utoipa::path(patch, path = "/sessions/{session}/prompts/{prompt}", tag = "prompts", request_body = EditPrompt,
    params(("session" = SessionId, Path), ("prompt" = PromptId, Path)), responses(
    (status = 200, body = QueuedPrompt),
    (status = 409, description = "The agent has it, or it was taken back", body = Problem),
    (status = 413, description = "Over 64,000 characters", body = Problem),
))]
pub(crate) async fn edit_prompt(
    State(state): State<AppState>,
    Id((session, prompt)): Id<(SessionId, PromptId)>,
    Body(EditPrompt { text, delivery }): Body<EditPrompt>,
) -> Result<Json<QueuedPrompt>, Reply> {
    Ok(Json(state.sessions.edit_prompt(session, prompt, text, delivery).await?))
}

/// Takes a prompt back that waits.
#[utoipa::path(delete, path = "/sessions/{session}/prompts/{prompt}", tag = "prompts",
    params(("session" = SessionId, Path), ("prompt" = PromptId, Path)), responses(
    (status = 204, description = "It will not run"),
    (status = 409, description = "The agent has it, or it was taken back", body = Problem),
))]
pub(crate) async fn cancel_prompt(
    State(state): State<AppState>,
    Id((session, prompt)): Id<(SessionId, PromptId)>,
) -> Result<StatusCode, Reply> {
    state.sessions.handle(session).await?.cancel_prompt(prompt).await?;
    Ok(StatusCode::NO_CONTENT)
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
