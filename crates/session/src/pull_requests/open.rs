//! A pull request is opened: the wish in the log first, then its branch, then the forge.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use forge::{GitHub, NewPull, RepoName};
use protocol::event::EventBody;
use protocol::git::{GitPush, PushOutcome};
use protocol::ids::SessionId;
use protocol::pull_request::{
    CreatePullRequest, PullRequestCreate, PullRequestOutcome, PullRequestProposal, PullRequestState,
    SessionPullRequest,
};
use protocol::view::SessionView;
use ulid::Ulid;

use super::PullRequestError;
use super::follow::{is_open, state, with_checks};
use super::propose::{possible, proposal, tip};
use crate::error::SessionError;
use crate::forges::At;
use crate::push::{self, Wanted};
use crate::registry::Sessions;

/// Sessions whose pull request is just being opened.
#[derive(Clone, Default)]
pub(crate) struct Opening(Arc<Mutex<HashSet<SessionId>>>);

/// The turn of one; it is over when this goes.
struct Turn(Opening, SessionId);

impl Opening {
    fn begin(&self, session: SessionId) -> Result<Turn, PullRequestError> {
        let is_first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(session);
        if is_first { Ok(Turn(self.clone(), session)) } else { Err(PullRequestError::Busy) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Sessions {
    /// Opens the pull request of a session, or only pushes its branch and gives the page to compose one.
    /// One that is open is given back. Goes on to its end also when the caller goes away.
    pub async fn create_pull_request(
        &self,
        id: SessionId,
        wish: CreatePullRequest,
    ) -> Result<SessionPullRequest, SessionError> {
        let this = self.clone();
        let work = async move {
            let view = this.shared.store.session(id).await?;
            Ok(this.fulfil(&view, &wish).await?)
        };
        let made = self.shared.background.spawn(work).await;
        made.unwrap_or(Err(SessionError::Stopping))
    }

    async fn fulfil(
        &self,
        view: &SessionView,
        wish: &CreatePullRequest,
    ) -> Result<SessionPullRequest, PullRequestError> {
        let _turn = self.shared.opening.begin(view.id)?;
        let At { github, name } = possible(&self.shared, view).await?;
        let mut told = SessionPullRequest::default();
        if let Some(known) = view.pull_request.as_ref().filter(|known| is_open(known.phase)) {
            let now = state(&github, &name, github.pull(&name, known.number).await?).await?;
            if is_open(now.phase) {
                told.pull_request = Some(now);
                return Ok(told);
            }
        }
        // Under the name that it has now.
        let repository = github.repository(&name).await?;
        let name = RepoName::parse(&repository.full_name).unwrap_or(name);
        let default = Some(repository.default_branch.as_str());
        let proposal = proposal(&self.shared, view, wish, (name.to_string(), default)).await?;
        if github.branch(&name, &proposal.base).await?.is_none() {
            return Err(PullRequestError::NoBase { base: proposal.base, repository: name.to_string() });
        }
        let planned = planned(view, &github, proposal, wish.draft);
        if wish.compose {
            self.bring_branch(view, &github, (&name, tip(view))).await?;
            told.compose = github.compose_page(&name, &new_pull(&planned));
            return Ok(told);
        }
        self.note(view.id, EventBody::PullRequestCreate(planned.clone())).await?;
        told.pull_request = Some(self.open(view, (&github, &name), planned).await?);
        Ok(told)
    }

    /// Does what is on record as planned, and records how that ended.
    async fn open(
        &self,
        view: &SessionView,
        (github, name): (&GitHub, &RepoName),
        mut create: PullRequestCreate,
    ) -> Result<PullRequestState, PullRequestError> {
        let opened = async {
            if create.outcome == PullRequestOutcome::Planned {
                self.bring_branch(view, github, (name, &create.commit)).await?;
                create.outcome = PullRequestOutcome::Claimed;
                self.note(view.id, EventBody::PullRequestCreate(create.clone())).await?;
            }
            Ok::<_, PullRequestError>(github.open_pull(name, &new_pull(&create)).await?)
        };
        let opened = opened.await;
        match opened {
            Ok(pull) => {
                create.outcome = PullRequestOutcome::Done;
                (create.number, create.url) = (Some(pull.number), Some(pull.html_url.clone()));
                // The checks are a remark: without them it is there all the same.
                let checks = github.checks(name, &pull.head.sha).await.unwrap_or_default();
                let now = with_checks(pull, &checks);
                // With each other: a wish that is done and a pull request that nobody knows of would be made again.
                let done =
                    vec![EventBody::PullRequestCreate(create), EventBody::PullRequestState(now.clone())];
                self.note_all(view.id, done).await?;
                Ok(now)
            }
            Err(error) => {
                create.outcome = PullRequestOutcome::Failed;
                create.error = Some(error.to_string());
                self.note(view.id, EventBody::PullRequestCreate(create)).await?;
                Err(error)
            }
        }
    }

    /// Brings the branch to the forge, where it is not there as it is here.
    async fn bring_branch(
        &self,
        view: &SessionView,
        github: &GitHub,
        (name, commit): (&RepoName, &str),
    ) -> Result<(), PullRequestError> {
        let there = github.branch(name, &view.branch).await?;
        if there.is_some_and(|there| there.commit.sha == commit) {
            return Ok(());
        }
        let shared = &self.shared;
        let refused = |why: String| PullRequestError::Unpushed {
            host: github.host().to_owned(),
            branch: view.branch.clone(),
            why,
        };
        let plan = push::plan(shared, view.id, commit, Wanted::ByPerson).await;
        let plan = plan.ok_or_else(|| refused("the server has no credential for it".into()))?;
        self.note(view.id, plan.event()).await?;
        let ended = push::run(shared, view.id, &view.branch, plan).await;
        self.note(view.id, ended.clone()).await?;
        match ended {
            EventBody::GitPush(push) if push.outcome == PushOutcome::Done => Ok(()),
            EventBody::GitPush(push) => Err(refused(why(&push))),
            _ => Err(refused("nothing is known of the push".into())),
        }
    }

    async fn note(&self, id: SessionId, body: EventBody) -> Result<(), PullRequestError> {
        self.note_all(id, vec![body]).await
    }

    async fn note_all(&self, id: SessionId, bodies: Vec<EventBody>) -> Result<(), PullRequestError> {
        let noted = match self.handle(id).await {
            Ok(handle) => handle.note_all(bodies).await,
            Err(error) => Err(error),
        };
        noted.map_err(|error| PullRequestError::Log(error.to_string()))
    }
}

fn planned(
    view: &SessionView,
    github: &GitHub,
    proposal: PullRequestProposal,
    draft: bool,
) -> PullRequestCreate {
    PullRequestCreate {
        effect: Ulid::generate().to_string(),
        host: github.host().to_owned(),
        repository: proposal.repository,
        head: proposal.head,
        commit: tip(view).to_owned(),
        base: proposal.base,
        title: proposal.title,
        body: proposal.body,
        draft,
        outcome: PullRequestOutcome::Planned,
        number: None,
        url: None,
        error: None,
    }
}

fn new_pull(create: &PullRequestCreate) -> NewPull {
    let mark = format!("<!-- patchyard effect {} -->", create.effect);
    NewPull {
        title: create.title.clone(),
        body: format!("{}\n\n{mark}", create.body),
        head: create.head.clone(),
        base: create.base.clone(),
        draft: create.draft,
        mark,
    }
}

/// Why a push is not there, on one line, with what to do.
fn why(push: &GitPush) -> String {
    let error = push.refs.iter().find_map(|one| one.error.clone());
    let words = push.words.as_deref().and_then(|words| words.lines().next()).map(ToOwned::to_owned);
    match (push.outcome, error, words) {
        (PushOutcome::Rejected, Some(error), Some(words)) => {
            format!("{error} ({words}); its rules have to allow it, or begin a session on another branch")
        }
        (PushOutcome::Rejected, Some(error), None) => error,
        (_, Some(error), _) => error,
        (_, None, Some(words)) => words,
        (_, None, None) => "it gave no reason; try again".into(),
    }
}

/// Goes on with a wish that a crash left open.
pub(crate) async fn resume(sessions: Sessions, id: SessionId) {
    let Ok(view) = sessions.shared.store.session(id).await else { return };
    let Some(create) = view.pull_request_create.clone().filter(PullRequestCreate::is_open) else { return };
    let Ok(_turn) = sessions.shared.opening.begin(id) else { return };
    let ended = match possible(&sessions.shared, &view).await {
        Ok(At { github, name }) => {
            let name = RepoName::parse(&create.repository).unwrap_or(name);
            sessions.open(&view, (&github, &name), create).await.map(drop)
        }
        Err(error) => {
            let error_text = error.to_string();
            let failed =
                PullRequestCreate { outcome: PullRequestOutcome::Failed, error: Some(error_text), ..create };
            sessions.note(id, EventBody::PullRequestCreate(failed)).await.and(Err(error))
        }
    };
    if let Err(error) = ended {
        tracing::warn!(session = %id, %error, "a pull request could not be opened after a restart");
    }
}
