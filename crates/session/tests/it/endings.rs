//! How sessions end: archived, with nothing left that goes on.

use protocol::event::EventBody;
use protocol::status::{SandboxPhase, TurnStatus};

use crate::far_side::Silent;
use crate::{World, never};

#[tokio::test]
async fn an_archived_session_gives_its_waiting_prompts_up_and_makes_no_new_sandbox() {
    let world = World::new(Silent::Agent, never()).await;
    let session = world.session().await;
    world.until(session, |body| matches!(body, EventBody::TurnStarted { .. })).await;
    world.sessions.prompt(session, "second".into(), protocol::prompt::Delivery::Next, None).await.unwrap();
    world.sessions.handle(session).await.unwrap().archive(true).await.unwrap();
    let suspended = |body: &EventBody| matches!(body, EventBody::SessionStatus(change) if change.sandbox == SandboxPhase::Suspended);
    let events = world.until(session, suspended).await;
    let ends: Vec<TurnStatus> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::TurnEnded(ended) => Some(ended.status),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [TurnStatus::Interrupted, TurnStatus::Interrupted], "both prompts have an end");
    let view = world.store.session(session).await.unwrap();
    assert_eq!((view.archived, view.queued_prompts, world.far_side.creates()), (true, 0, 1));
}

#[tokio::test]
async fn a_sandbox_with_the_only_copy_is_not_taken_down_by_archiving() {
    let mut deadlines = never();
    (deadlines.agent, deadlines.checkpoint) =
        (std::time::Duration::from_millis(100), std::time::Duration::from_millis(100));
    let world = World::new(Silent::AgentAndCheckpoint, deadlines).await;
    let session = world.session().await;
    world.until(session, |body| matches!(body, EventBody::TurnEnded(_))).await;
    let refused = world.sessions.handle(session).await.unwrap().archive(true).await.unwrap_err();
    assert!(refused.to_string().contains("only copy"), "{refused}");
    let view = world.store.session(session).await.unwrap();
    assert_eq!((view.archived, view.sandbox), (false, SandboxPhase::Ready));
}
