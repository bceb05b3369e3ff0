//! Deadlines: every transient state has one, a reason in the log, and an exit.

use protocol::status::StopReason;
use store::StoreError;
use tokio::time::Instant;

use super::Driver;
use super::job::Job;
use crate::provision;

/// Ends when the time has come; never without one.
pub(super) async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        // While the person thinks, the job's own time stands still.
        self.question.as_ref().map(|open| open.deadline).or(self.deadline).or_else(|| self.idle_until())
    }

    pub(super) async fn deadline_passed(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.question.as_ref().is_some_and(|open| open.deadline <= now) {
            return self.answer_by_default().await;
        }
        if self.deadline.is_none() && self.idle_until().is_some_and(|until| until <= now) {
            return self.hibernate().await;
        }
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return Ok(());
        }
        self.deadline = None;
        match &self.job {
            // The turn was told to stop and did not, or lasted too long: from here on by force.
            Some(Job::Turn { stopped: Some(_), .. }) => self.kill_turn().await,
            Some(Job::Turn { .. }) => self.stop(StopReason::Deadline).await,
            Some(Job::Sandbox { .. } | Job::Prepare { .. }) => {
                self.step_failed(provision::TOO_LONG.into()).await
            }
            None => {
                self.drop_failed_sandbox();
                Ok(())
            }
        }
    }
}
