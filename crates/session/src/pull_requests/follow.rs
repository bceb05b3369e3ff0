//! A pull request as its forge tells of it.

use forge::{Checks, ForgeError, GitHub, Pull, RepoName};
use protocol::event::EventBody;
use protocol::ids::SessionId;
use protocol::pull_request::{
    CheckCounts, CreatePullRequest, PullRequestOutcome, PullRequestPhase, PullRequestProposal,
    PullRequestState, SessionPullRequest,
};
use protocol::view::SessionView;

use super::PullRequestError;
use super::propose::{possible, proposal};
use crate::error::SessionError;
use crate::forges::At;
use crate::gateways::address;
use crate::registry::Sessions;

/// Names of failed checks that are told.
const MAX_FAILING: usize = 10;

impl Sessions {
    /// The pull request of a session as it is now, or why it has none and what one would say.
    pub async fn pull_request(&self, id: SessionId) -> Result<SessionPullRequest, SessionError> {
        let view = self.shared.store.session(id).await?;
        if let Some(known) = view.pull_request.clone() {
            return Ok(self.look(&view, known).await);
        }
        let mut told = SessionPullRequest::default();
        self.propose(&view, &mut told).await;
        Ok(told)
    }

    /// What a new one would say, or why there can be none.
    async fn propose(&self, view: &SessionView, told: &mut SessionPullRequest) {
        match self.would_be(view).await {
            Ok(proposal) => told.proposal = Some(proposal),
            Err(error) => told.reason = Some(error.to_string()),
        }
    }

    async fn would_be(&self, view: &SessionView) -> Result<PullRequestProposal, PullRequestError> {
        if view.pull_request_create.as_ref().is_some_and(|create| create.is_open()) {
            return Err(PullRequestError::Busy);
        }
        let at = possible(&self.shared, view).await?;
        let wish = CreatePullRequest::default();
        proposal(&self.shared, view, &wish, (at.name.to_string(), None)).await
    }

    /// Asks the forge, and writes down what is not as it was.
    async fn look(&self, view: &SessionView, known: PullRequestState) -> SessionPullRequest {
        let mut told =
            SessionPullRequest { pull_request: Some(known.clone()), ..SessionPullRequest::default() };
        match self.ask(view, known.number).await {
            Ok(now) => {
                if now != known
                    && let Ok(handle) = self.handle(view.id).await
                    && let Err(error) = handle.note(EventBody::PullRequestState(now.clone())).await
                {
                    tracing::warn!(session = %view.id, %error, "the state of a pull request could not be logged");
                }
                told.pull_request = Some(now);
            }
            Err(error) => told.stale = Some(error.to_string()),
        }
        // Another one can be made when this one is over.
        let is_over = told.pull_request.as_ref().is_some_and(|now| !is_open(now.phase));
        if is_over {
            self.propose(view, &mut told).await;
        }
        told
    }

    async fn ask(&self, view: &SessionView, number: u64) -> Result<PullRequestState, PullRequestError> {
        let url = address(view).ok_or(PullRequestError::NoRemote(view.id))?;
        let At { github, name } = self.shared.at_forge(&url).await?;
        // It stays with the repository that it was made in, whatever that is called now.
        let made = view.pull_request_create.as_ref().filter(|made| made.outcome == PullRequestOutcome::Done);
        let name = made.and_then(|made| RepoName::parse(&made.repository)).unwrap_or(name);
        let pull = github.pull(&name, number).await?;
        Ok(state(&github, &name, pull).await?)
    }
}

pub(super) fn is_open(phase: PullRequestPhase) -> bool {
    matches!(phase, PullRequestPhase::Open | PullRequestPhase::Draft)
}

/// A pull request with its checks.
pub(super) async fn state(
    github: &GitHub,
    name: &RepoName,
    pull: Pull,
) -> Result<PullRequestState, ForgeError> {
    let checks = github.checks(name, &pull.head.sha).await?;
    Ok(with_checks(pull, &checks))
}

pub(super) fn with_checks(pull: Pull, checks: &Checks) -> PullRequestState {
    PullRequestState {
        number: pull.number,
        url: pull.html_url,
        title: pull.title,
        phase: match (pull.state.as_str(), pull.draft) {
            ("open", true) => PullRequestPhase::Draft,
            ("open", false) => PullRequestPhase::Open,
            _ if pull.merged_at.is_some() => PullRequestPhase::Merged,
            _ => PullRequestPhase::Closed,
        },
        base: pull.base.branch,
        commit: pull.head.sha,
        checks: counts(checks),
    }
}

fn counts(checks: &Checks) -> CheckCounts {
    let mut counts = CheckCounts::default();
    let runs = checks.runs.iter().map(|run| {
        let end = run.conclusion.as_deref().filter(|_| run.status == "completed");
        (run.name.as_str(), end.unwrap_or("pending"))
    });
    let statuses = checks.statuses.iter().map(|status| (status.context.as_str(), status.state.as_str()));
    for (name, end) in runs.chain(statuses) {
        match end {
            "success" | "neutral" | "skipped" => counts.passed += 1,
            "pending" => counts.pending += 1,
            // What a forge of tomorrow says is not taken for good.
            _ => {
                counts.failed += 1;
                if counts.failing.len() < MAX_FAILING {
                    counts.failing.push(name.chars().filter(|c| !c.is_control()).take(100).collect());
                }
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use forge::{CheckRun, CommitStatus};

    use super::*;

    #[test]
    fn a_check_is_good_only_where_the_forge_says_so() {
        let run = |status: &str, conclusion: Option<&str>| CheckRun {
            id: 1,
            name: format!("{status} {conclusion:?}"),
            status: status.into(),
            conclusion: conclusion.map(Into::into),
            html_url: None,
        };
        let status =
            |state: &str| CommitStatus { context: state.into(), state: state.into(), target_url: None };
        let counts = counts(&Checks {
            runs: vec![
                run("completed", Some("success")),
                run("completed", Some("skipped")),
                run("completed", Some("timed_out")),
                run("completed", Some("stale")),
                run("in_progress", None),
                run("queued", Some("success")),
            ],
            statuses: vec![status("success"), status("pending"), status("error")],
        });
        assert_eq!((counts.passed, counts.pending, counts.failed), (3, 3, 3));
        assert_eq!(counts.failing.len(), 3);
    }
}
