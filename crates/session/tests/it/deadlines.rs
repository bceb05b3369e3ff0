//! One test per transient state.

use std::time::Duration;

use protocol::event::{EventBody, Step};
use protocol::status::{SessionStatus, StopReason, TurnStatus};

use crate::far_side::Silent;
use crate::{World, never};

const SOON: Duration = Duration::from_millis(100);

fn has_status(body: &EventBody, status: SessionStatus) -> bool {
    matches!(body, EventBody::SessionStatus(change) if change.status == status)
}

fn failed_step(wanted: Step) -> impl Fn(&EventBody) -> bool {
    move |body| matches!(body, EventBody::StepFinished { step, error: Some(error), .. } if *step == wanted && error.contains("too long"))
}

#[tokio::test]
async fn a_sandbox_that_is_never_made_fails_the_session_and_a_prompt_tries_again() {
    let mut deadlines = never();
    deadlines.sandbox = SOON;
    let world = World::new(Silent::Create, deadlines).await;
    let session = world.session().await;
    let events = world.until(session, |body| has_status(body, SessionStatus::Failed)).await;
    assert!(events.iter().any(|event| failed_step(Step::Sandbox)(&event.body)));
    let view = world.store.session(session).await.unwrap();
    assert_eq!(view.queued_prompts, 1, "the prompt is kept");
    assert!(view.reason.unwrap().contains("too long"));

    let before = view.last_seq;
    world.sessions.prompt(session, "again".into(), protocol::prompt::Delivery::Next, None).await.unwrap();
    world.after(session, before, failed_step(Step::Sandbox)).await;
    assert_eq!(world.far_side.creates(), 2);
    assert_eq!(world.store.session(session).await.unwrap().queued_prompts, 2);
}

#[tokio::test]
async fn a_clone_that_never_ends_fails_the_session() {
    let mut deadlines = never();
    deadlines.workspace = SOON;
    let world = World::new(Silent::Clone, deadlines).await;
    let session = world.session().await;
    let events = world.until(session, |body| has_status(body, SessionStatus::Failed)).await;
    assert!(events.iter().any(|event| failed_step(Step::Workspace)(&event.body)));
}

#[tokio::test]
async fn an_agent_that_never_speaks_fails_the_turn_and_the_session_rests() {
    let mut deadlines = never();
    deadlines.agent = SOON;
    let world = World::new(Silent::Agent, deadlines).await;
    let session = world.session().await;
    world.until(session, |body| has_status(body, SessionStatus::Idle)).await;
    let end = world.store.session(session).await.unwrap().last_turn.unwrap();
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Failed, StopReason::Deadline));
    assert!(end.message.unwrap().contains("did not start within"));
}

#[tokio::test]
async fn a_turn_that_lasts_too_long_ends_as_a_limit() {
    let mut deadlines = never();
    deadlines.turn = SOON;
    let world = World::new(Silent::Agent, deadlines).await;
    let session = world.session().await;
    world.until(session, |body| has_status(body, SessionStatus::Idle)).await;
    let end = world.store.session(session).await.unwrap().last_turn.unwrap();
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Limit, StopReason::Deadline));
}

#[tokio::test]
async fn a_workspace_that_is_never_recorded_is_told_and_the_turn_ends() {
    let mut deadlines = never();
    (deadlines.agent, deadlines.checkpoint) = (SOON, SOON);
    let world = World::new(Silent::AgentAndCheckpoint, deadlines).await;
    let session = world.session().await;
    let events = world.until(session, |body| has_status(body, SessionStatus::Idle)).await;
    let told =
        |body: &EventBody| matches!(body, EventBody::Error(error) if error.code == "checkpoint_failed");
    assert!(events.iter().any(|event| told(&event.body)));
}

#[tokio::test]
async fn a_turn_that_does_not_stop_is_killed() {
    let mut deadlines = never();
    (deadlines.agent, deadlines.stop, deadlines.checkpoint) = (SOON * 10, SOON, SOON * 20);
    let world = World::new(Silent::AgentAndCheckpoint, deadlines).await;
    let session = world.session().await;
    world.until(session, |body| matches!(body, EventBody::TurnStarted { .. })).await;
    world.sessions.handle(session).await.unwrap().stop().await.unwrap();
    world.until(session, |body| has_status(body, SessionStatus::Idle)).await;
    let end = world.store.session(session).await.unwrap().last_turn.unwrap();
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Interrupted, StopReason::UserStop));
    assert_eq!(world.far_side.kills(), 1, "what the turn left running is gone");
}
