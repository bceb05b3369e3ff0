//! The client, as its users call it, against the fake forge over TLS.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod pulls;
mod reading;
mod wrong;

use std::time::Duration;

use forge::{ForgeAddress, Forges, GitHub, NewPull, RepoName, Token};
use policy::address::AddressRules;
use testkit::fake_forge::{FakeForge, Grant};
use testkit::harness::Repo;
use testkit::internet::Authority;

/// What must be in no error.
const TOKEN: &str = "ghp_canary0123456789";

const THING: &str = "team/thing";

struct World {
    fake: FakeForge,
    github: GitHub,
    forges: Forges,
    repo: Repo,
    name: RepoName,
}

fn rules() -> AddressRules {
    let exception = r#"{"host":"127.0.0.1","cidr":"127.0.0.0/8"}"#;
    AddressRules { exceptions: vec![serde_json::from_str(exception).unwrap()] }
}

fn address(fake: &FakeForge) -> ForgeAddress {
    ForgeAddress::configured(fake.host(), None).unwrap()
}

impl World {
    async fn start() -> Self {
        let authority = Authority::make();
        let fake = FakeForge::start(&authority).await;
        let repo = Repo::with("thing", &[("README.md", "# A thing\n")]);
        fake.publish(THING, &repo);
        fake.allow(TOKEN, Grant::all("me"));
        let forges = Forges::new(rules(), &authority.pem, Duration::from_secs(2)).unwrap();
        let github = forges.at(address(&fake), Some(Token::new(TOKEN)));
        Self { fake, github, forges, repo, name: RepoName::parse(THING).unwrap() }
    }

    /// A branch with a commit of its own.
    fn branch(&self, name: &str) {
        self.repo.git(&["switch", "--quiet", "-c", name, "main"]);
        self.repo.write("new.txt", format!("{name}\n"));
        self.repo.commit("Work");
        let bare = self.fake.bare(THING).display().to_string();
        self.repo.git(&["push", "--quiet", &bare, name]);
    }
}

fn proposal(head: &str) -> NewPull {
    NewPull {
        title: "Work".into(),
        body: "What was done.\n\n<!-- mark-1 -->".into(),
        head: head.into(),
        base: "main".into(),
        draft: false,
        mark: "mark-1".into(),
    }
}
