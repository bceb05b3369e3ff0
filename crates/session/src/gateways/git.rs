//! What the git proxy has to know of a session.
//!
//! ```text
//!   door ─▶ the session's stored address, its branch, the credential for its host
//!   push ─▶ audit record, on the disk, before it goes out ─▶ how it ended: record and `git.push` in the log
//! ```

use async_trait::async_trait;
use git_proxy::{Attached, Remote, Repositories};
use policy::push::PushRules;
use policy::repository::RepositoryUrl;
use protocol::event::EventBody;
use protocol::git::GitPush;
use protocol::ids::SessionId;
use protocol::view::SessionView;
use store::Store;
use tokio::sync::mpsc;

use super::account::{Note, note};
use super::pushes::PushRecords;
use crate::credentials::credential_for;

/// The repository of a session, as a sandbox reaches it.
pub(super) struct SessionRemote {
    pub(super) session: SessionId,
    pub(super) store: Store,
    pub(super) repositories: Repositories,
    pub(super) personal_tokens: bool,
    pub(super) records: PushRecords,
    pub(super) notes: mpsc::UnboundedSender<Note>,
}

/// What a session may reach, with a credential where such are `allowed`; why there is nothing.
pub(crate) async fn remote_of(store: &Store, allowed: bool, view: &SessionView) -> Result<Remote, String> {
    let Some(url) = address(view) else {
        return Err(format!(
            "this session has no remote repository; `patchyard sessions pull {}` brings its branch home",
            view.id
        ));
    };
    let credential = credential_for(store, allowed, &url).await.map_err(|error| error.to_string())?;
    let push = PushRules::of([view.branch.as_str()]);
    let push = match view.existing_branch {
        true => push.from_tips([view.head.as_str()].into_iter().chain(view.pushed.as_deref())),
        false => push,
    };
    Ok(Remote { url, credential, push })
}

/// The address that a session came from, where it can be reached over the network.
pub(crate) fn address(view: &SessionView) -> Option<RepositoryUrl> {
    let url = RepositoryUrl::parse(view.repository.url.as_deref()?, &[]).ok()?;
    matches!(url, RepositoryUrl::Http { .. }).then_some(url)
}

#[async_trait]
impl Attached for SessionRemote {
    async fn remote(&self) -> Result<Remote, String> {
        let view = self.store.session(self.session).await.map_err(|error| error.to_string())?;
        remote_of(&self.store, self.personal_tokens, &view).await
    }

    async fn modules(&self) -> Vec<Remote> {
        let mut remotes = Vec::new();
        for module in self.repositories.attached_modules(self.session).await {
            let credential = match module.shown {
                true => credential_for(&self.store, self.personal_tokens, &module.url).await.ok().flatten(),
                false => None,
            };
            remotes.push(Remote { url: module.url, credential, push: PushRules::default() });
        }
        remotes
    }

    async fn begins(&self, push: &GitPush) -> Result<(), String> {
        self.records.write(self.session, push.clone()).await.map_err(|error| error.to_string())
    }

    async fn ended(&self, push: GitPush) {
        let session = self.session;
        if let Err(error) = self.records.write(session, push.clone()).await {
            tracing::warn!(%session, %error, "the end of a push could not be recorded");
        }
        if let Err(reason) = note(&self.notes, session, EventBody::GitPush(push)).await {
            tracing::warn!(%session, reason, "a push could not be logged");
        }
    }
}
