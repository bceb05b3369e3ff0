//! A private repository: fetched by the server, and a session's branch pushed back.

use std::path::Path;

use git_proxy::{Credential, FetchRules, GitError, Remote, RemoteError, Repositories};
use policy::address::AddressRules;
use policy::push::PushRules;
use policy::repository::RepositoryUrl;
use protocol::git::{GitPush, PushOutcome};
use protocol::ids::SessionId;
use testkit::harness::{GitHost, Repo};
use testkit::internet::Authority;

use crate::git;

const TOKEN: &str = "canary-token-0123456789";

/// `me:` and the token in base64.
const BASIC: &str = "bWU6Y2FuYXJ5LXRva2VuLTAxMjM0NTY3ODk=";

const OWN: &str = "patchyard/work-1";

struct World {
    dir: tempfile::TempDir,
    host: GitHost,
    remote: Remote,
    rules: FetchRules,
    repositories: Repositories,
    session: SessionId,
}

impl World {
    async fn start() -> Self {
        let authority = Authority::make();
        let host = GitHost::private(&authority, BASIC).await;
        let url = host.publish(&Repo::with("thing", &[("a.txt", "one\n")]));
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("authorities.pem");
        std::fs::write(&pem, &authority.pem).unwrap();
        let open = serde_json::from_str(r#"{"host":"127.0.0.1","cidr":"127.0.0.0/8"}"#).unwrap();
        let rules = FetchRules {
            addresses: AddressRules { exceptions: vec![open] },
            authorities: Some(pem),
            ..FetchRules::default()
        };
        let remote = Remote {
            url: RepositoryUrl::parse(&url, &[]).unwrap(),
            credential: Some(Credential::new("me", TOKEN)),
            push: PushRules::default(),
        };
        let repositories = Repositories::open(&dir.path().join("data")).await.unwrap();
        Self { dir, host, remote, rules, repositories, session: ulid::Ulid::generate().into() }
    }

    async fn import(&self, remote: &Remote) -> Result<git_proxy::Imported, GitError> {
        self.repositories.import_url(self.session, remote, None, &self.rules).await
    }

    fn own(&self) -> std::path::PathBuf {
        self.repositories.path(self.session)
    }

    /// Another commit on the session's branch, on top of `parent`.
    fn commit(&self, parent: &str, message: &str) -> String {
        let tree = git(&self.own(), &["rev-parse", &format!("{parent}^{{tree}}")]);
        let made = git(&self.own(), &["commit-tree", &tree, "-p", parent, "-m", message]);
        git(&self.own(), &["update-ref", &format!("refs/heads/{OWN}"), &made]);
        made
    }

    async fn publish(&self, known: Option<&str>) -> Result<GitPush, GitError> {
        self.repositories.publish(self.session, OWN, (&self.remote, known), &self.rules).await
    }

    fn there(&self) -> String {
        git(&self.host.bare("thing"), &["rev-parse", OWN])
    }

    fn posts(&self) -> usize {
        self.host.requests().iter().filter(|one| one.line.ends_with("/git-receive-pack")).count()
    }
}

/// Nothing of the credential is in a folder.
fn is_nowhere_in(folder: &Path) {
    let words = format!("{TOKEN}|{BASIC}");
    let found = std::process::Command::new("grep").args(["-rlaE", &words]).arg(folder).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_fetched_with_its_credential_and_errors_say_what_to_do() {
    let world = World::start().await;
    let imported = world.import(&world.remote).await.unwrap();
    assert_eq!(imported.branch.as_deref(), Some("main"));
    is_nowhere_in(&world.dir.path().join("data"));

    let error = async |remote: &Remote| {
        let error = world.import(remote).await.unwrap_err();
        assert!(error.is_remote() || matches!(error, GitError::Empty(_)), "{error:?}");
        let text = error.to_string();
        assert!(!text.contains(TOKEN) && !text.contains(BASIC) && !text.contains('\n'), "{text}");
        text
    };
    let none = Remote { credential: None, ..world.remote.clone() };
    assert!(error(&none).await.contains("this server has none for it; set one with"));
    let wrong = Remote { credential: Some(Credential::new("me", "wrong-token")), ..world.remote.clone() };
    assert!(error(&wrong).await.contains("did not accept the stored credential"));
    for (status, words) in [(403, "needs permission to read"), (404, "was not found"), (503, "answered 503")]
    {
        world.host.instead("/info/refs", status, "");
        let text = error(&world.remote).await;
        assert!(text.contains(words), "{status}: {text}");
    }
    world.host.instead("/info/refs", 302, "https://127.0.0.1:1/thing.git/info/refs");
    let text = error(&world.remote).await;
    assert!(text.contains("has moved") || text.contains("answered 302"), "{text}");
    world.host.as_usual();
    let at = |url: String| Remote { url: RepositoryUrl::parse(&url, &[]).unwrap(), ..world.remote.clone() };
    assert!(error(&at("https://127.0.0.1:1/thing.git".into())).await.contains("cannot be reached"));
    git(
        world.dir.path(),
        &["clone", "-q", "--bare", &Repo::empty("x").arg(), &world.host.bare("x").display().to_string()],
    );
    assert!(error(&at(format!("{}/x.git", world.host.address()))).await.contains("has no commit yet"));

    let strangers = FetchRules { authorities: None, ..world.rules.clone() };
    let refused = world.repositories.import_url(world.session, &world.remote, None, &strangers).await;
    assert!(matches!(refused, Err(GitError::Remote(RemoteError::Certificate { .. }))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_pushed_once_and_never_over_somebody_elses_commits() {
    let world = World::start().await;
    let base = world.import(&world.remote).await.unwrap().base;
    world.repositories.start_branch(world.session, OWN, &base).await.unwrap();
    let one = world.commit(&base, "one");
    let push = world.publish(None).await.unwrap();
    assert_eq!((push.outcome, push.refs[0].old.as_ref()), (PushOutcome::Done, None));
    assert_eq!((world.there(), world.posts()), (one.clone(), 1));
    // A second try asks first, and sends nothing.
    assert_eq!(world.publish(None).await.unwrap().outcome, PushOutcome::Done);
    assert_eq!(world.posts(), 1);

    let two = world.commit(&one, "two");
    assert_eq!(world.publish(None).await.unwrap().outcome, PushOutcome::Done, "it only adds to it");
    // The session wrote its own history anew.
    let other = world.commit(&base, "other");
    let push = world.publish(None).await.unwrap();
    assert!(
        push.outcome == PushOutcome::Rejected
            && push.refs[0].error.as_ref().unwrap().contains("fetch and merge")
    );
    assert_eq!(world.there(), two);
    assert_eq!(world.publish(Some(&two)).await.unwrap().outcome, PushOutcome::Done);
    assert_eq!(world.there(), other);

    // Somebody else went on with it.
    let bare = world.host.bare("thing");
    let tree = git(&bare, &["rev-parse", &format!("{other}^{{tree}}")]);
    let theirs = git(&bare, &["commit-tree", &tree, "-p", &other, "-m", "theirs"]);
    git(&bare, &["update-ref", &format!("refs/heads/{OWN}"), &theirs]);
    world.commit(&other, "ours");
    assert_eq!(world.publish(Some(&other)).await.unwrap().outcome, PushOutcome::Rejected);
    assert_eq!(world.there(), theirs);

    git(&bare, &["update-ref", &format!("refs/heads/{OWN}"), &other]);
    let hook = bare.join("hooks/update");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\necho 'not here, {TOKEN}' >&2\nexit 1\n")).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let push = world.publish(Some(&other)).await.unwrap();
    assert_eq!((push.outcome, push.refs[0].error.as_deref()), (PushOutcome::Rejected, Some("hook declined")));
    let words = push.words.unwrap();
    assert!(words.contains("not here, …") && !words.contains(TOKEN), "{words}");

    world.host.want("b3RoZXI6dG9rZW4=");
    let error = world.publish(None).await.unwrap_err();
    assert!(matches!(error, GitError::Remote(RemoteError::Credential { .. })), "{error:?}");
    is_nowhere_in(&world.dir.path().join("data"));
}
