//! The branch of a session, pushed by the server to the repository that it came from.
//!
//! ```text
//!   ask what the branch is there ─┬─ what it is here ─▶ done, nothing is sent
//!                                 ├─ nothing, behind ours, or what the session pushed itself ─▶ push
//!                                 └─ anything else ───▶ rejected: somebody else has it
//! ```
//!
//! The push holds only if the branch still is what was seen, so that a second try can double nothing and
//! nobody's commits are lost.

use policy::repository::RepositoryUrl;
use protocol::git::{GitPush, PushOutcome, PushedBy, PushedRef};
use protocol::ids::SessionId;

use crate::command::{Git, plain, reason};
use crate::credential::Credential;
use crate::error::GitError;
use crate::import::resolve;
use crate::mirror::{FetchRules, Way};
use crate::remote::{Remote, RemoteError};
use crate::repositories::Repositories;

/// What is said of a branch that is not the session's any more.
const MOVED: &str = "the branch has commits there that this session does not know; fetch and merge them";

impl Repositories {
    /// Pushes the session's branch. `known` is what the session pushed there last.
    pub async fn publish(
        &self,
        session: SessionId,
        branch: &str,
        (remote, known): (&Remote, Option<&str>),
        rules: &FetchRules,
    ) -> Result<GitPush, GitError> {
        let repository = self.existing(session).await?;
        if !matches!(remote.url, RepositoryUrl::Http { .. }) {
            return Err(RemoteError::NotGit { url: remote.url.to_string() }.into());
        }
        let way = Way::to(remote, rules).await?;
        let name = format!("refs/heads/{branch}");
        let tip = resolve(&repository, &name).await?;
        let told = |error| way.told(error, "write to");
        let listed = way.git("ls-remote", &repository).args(["ls-remote", "--", &way.address, &name]);
        let listed = listed.text().await.map_err(told)?;
        let seen = listed.lines().find_map(|line| line.strip_suffix(&name)?.strip_suffix('\t'));
        let mut push = GitPush {
            repository: remote.url.to_string(),
            by: PushedBy::Server,
            outcome: PushOutcome::Done,
            refs: vec![PushedRef {
                name: name.clone(),
                old: seen.map(Into::into),
                new: Some(tip.clone()),
                error: None,
            }],
            words: None,
        };
        let ours = match seen {
            None => true,
            Some(seen) if seen == tip => return Ok(push),
            Some(seen) => known == Some(seen) || is_behind(&repository, seen, &tip).await,
        };
        if !ours {
            push.outcome = PushOutcome::Rejected;
            push.refs[0].error = Some(MOVED.into());
            return Ok(push);
        }
        let lease = format!("--force-with-lease={name}:{}", seen.unwrap_or_default());
        let ended = way
            .git("push", &repository)
            .args(["push", "--porcelain", "--no-verify", "--no-follow-tags", &lease, "--"])
            .args([&way.address, &format!("{tip}:{name}")])
            .ended()
            .await?;
        push.words = said(&ended.stderr, remote);
        if ended.success {
            return Ok(push);
        }
        let line = String::from_utf8_lossy(&ended.stdout).lines().find_map(|line| {
            let (_, rest) = line.strip_prefix("!\t")?.split_once('\t')?;
            Some(refusal(rest))
        });
        match line {
            Some(why) => {
                push.outcome = PushOutcome::Rejected;
                push.refs[0].error = Some(why);
                Ok(push)
            }
            None => Err(told(GitError::Git { action: "push", words: reason(&ended.stderr) })),
        }
    }
}

/// `[remote rejected] (hook declined)`: what stands in parentheses, or all of it.
fn refusal(text: &str) -> String {
    let inner = text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map(|(inner, _)| inner);
    plain(inner.unwrap_or(text))
}

/// What the server says to people, without what it must not say.
fn said(stderr: &[u8], remote: &Remote) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().filter_map(|line| line.strip_prefix("remote: ")).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty()).take(20);
    let secrets: Vec<String> = remote.shown().into_iter().flat_map(Credential::words).collect();
    // Before a line is cut, which could cut a secret in two; after what could stand within one is gone.
    let hide = |line: &str| {
        let line = line.chars().filter(|c| !c.is_control()).collect::<String>();
        plain(&secrets.iter().fold(line, |line, secret| line.replace(secret, "…")))
    };
    let words = lines.map(hide).collect::<Vec<_>>().join("\n");
    (!words.is_empty()).then_some(words)
}

async fn is_behind(repository: &std::path::Path, seen: &str, tip: &str) -> bool {
    // A commit that is not here is behind nothing.
    let asked = Git::new("merge-base", Some(repository)).args(["merge-base", "--is-ancestor", seen, tip]);
    asked.run().await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_token_is_passed_on_wherever_a_line_is_cut() {
        let url = RepositoryUrl::parse("https://h.test/o/r.git", &[]).unwrap();
        let credential = Some(Credential::new("u", "sekrit-token"));
        let remote = Remote { url, credential, push: policy::push::PushRules::default() };
        for length in 0..310 {
            let line = format!("remote: {}sek\u{7}rit-token end", "x".repeat(length));
            let words = said(line.as_bytes(), &remote).unwrap();
            assert!(!words.contains("sek") && words.chars().count() <= 300, "{words}");
        }
    }

    #[test]
    fn the_reason_of_a_refusal_is_what_stands_in_parentheses() {
        assert_eq!(refusal("[remote rejected] (hook declined)"), "hook declined");
        assert_eq!(refusal("[rejected] (stale info)"), "stale info");
        assert_eq!(refusal("[remote failure] (a (b) c)"), "a (b) c");
        assert_eq!(refusal("odd"), "odd");
    }
}
