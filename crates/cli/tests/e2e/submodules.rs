//! Submodules: fetched outside, checked out inside, and nothing of a repository that is not the session's.
//!
//! ```text
//!  team/app ─┬─ lib (../lib.git) ─── deep (../deep.git)        fetched with the token: the same owner
//!            ├─ other (other/secret)                           private, of somebody else: left empty, and told
//!            └─ gone (team/gone)                               not there: left empty, and told
//! ```

use protocol::event::{Event, EventBody, Step};
use protocol::ids::SessionId;
use protocol::view::SessionView;
use serde_json::json;
use testkit::harness::{GitHost, Repo};
use testkit::model::{Script, Turn, When};

use crate::forge::{TOKEN, World};
use crate::hibernate::until_put_away;
use crate::world::{bash, check_log, completed, last_result};

const FILE: &str = "-c protocol.file.allow=always";

/// Adds a submodule that will be at `url` and is now a folder.
fn add(to: &Repo, from: &Repo, path: &str, url: &str) {
    let words: Vec<&str> = FILE.split(' ').collect();
    to.git(&[&words[..], &["submodule", "--quiet", "add", "--name", path, &from.arg(), path]].concat());
    to.git(&["config", "--file", ".gitmodules", &format!("submodule.{path}.url"), url]);
}

/// Publishes `team/app` with what belongs to it; its address.
fn publish(host: &GitHost) -> String {
    let deep = Repo::with("deep", &[("deep.txt", "deep\n")]);
    let lib = Repo::with("lib", &[("lib.txt", "lib\n")]);
    add(&lib, &deep, "deep", "../deep.git");
    lib.commit("Deep");
    let secret = Repo::with("secret", &[("secret.txt", "nobody else\n")]);
    let app = Repo::with("app", &[("README.md", "# An app\n")]);
    add(&app, &lib, "third party/lib", "../lib.git");
    let address = host.address();
    add(&app, &secret, "other", &format!("{address}/other/secret.git"));
    add(&app, &deep, "gone", "../gone.git");
    app.commit("Submodules");
    for (repo, name) in [(&deep, "team/deep"), (&lib, "team/lib"), (&secret, "other/secret")] {
        host.publish_as(repo, name);
    }
    host.publish_as(&app, "team/app")
}

/// What the step of the workspace printed.
pub(crate) fn of_workspace(events: &[Event]) -> String {
    let said = events.iter().filter_map(|event| match &event.body {
        EventBody::StepOutput { step: Step::Workspace, text } => Some(text.as_str()),
        _ => None,
    });
    said.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_are_there_and_nothing_of_another_owner_is() {
    let look = "exec 2>&1; cat 'third party/lib/lib.txt' 'third party/lib/deep/deep.txt'; ls other gone; \
        git status --porcelain; git -C 'third party/lib' config remote.origin.url; \
        git -C 'third party/lib' fetch origin && echo fetched; \
        git -C 'third party/lib' push origin HEAD:main; \
        git submodule update --init gone; git -c submodule.other.update=checkout submodule update --init other; \
        grep -rl 'nobody else' other /run/patchyard/repository.git/modules; echo looked";
    let world = World::serving(publish, |_| Script::by_depth([bash(look), Turn::text("done")]), "").await;
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let outcome = world.task().await.exits(0).json();
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, _) = check_log(&world.server, session).await;
    let step = of_workspace(&events);
    let (host, said) = (world.host.address(), last_result(&events));
    for wanted in [
        "The submodule `gone` is left empty:",
        "gone.git was not found",
        &format!(
            "The submodule `other` is left empty: {host}/other/secret.git wants a credential, and the server's goes"
        ),
    ] {
        assert!(step.contains(wanted), "{wanted}: {step}");
    }
    assert!(said.starts_with("lib\ndeep\ngone:\n\nother:\n"), "{said}");
    for wanted in [&format!("{host}/team/lib.git\n"), "fetched\n", "it can be fetched, and not pushed to"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(said.trim_end().ends_with("looked") && !said.contains("other/secret.txt"), "{said}");
    assert!(!said.contains("modified") && !said.contains("secret.git/objects"), "{said}");
    let asked = world.host.requests();
    let for_secret = asked.iter().filter(|one| one.line.contains("/other/secret"));
    assert!(for_secret.into_iter().all(|one| !one.headers.contains_key("authorization")));
    world.is_nowhere(session).await;
    world.model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submodule_moves_with_its_repository_and_what_stays_in_it_is_told() {
    let work = "set -e; exec 2>&1; cd 'third party/lib'; git config user.name A; git config user.email a@b.test; \
        git commit -q --allow-empty -m Ours; echo left > left.txt; cd ../..; git status --porcelain";
    let world = World::serving(publish, |_| Script::by_depth([bash(work), Turn::text("done")]), "").await;
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let outcome = world.task().await.exits(0).json();
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, view) = check_log(&world.server, session).await;
    assert!(last_result(&events).contains("third party/lib"), "{}", last_result(&events));
    let told = events.iter().find_map(|event| match &event.body {
        EventBody::Error(told) if told.code == "submodule_changes" => Some(told.message.clone()),
        _ => None,
    });
    let told = told.unwrap();
    assert!(told.contains("Changed files in the submodules `third party/lib` are not recorded"), "{told}");
    assert!(told.contains("New commits in the submodules `third party/lib` are not recorded"), "{told}");
    let diff = world.server.get(&format!("/sessions/{session}/diff")).await.is(200).text();
    assert!(diff.contains("third party/lib") && !diff.contains("left.txt"), "{diff}");
    let bare = world.host.bare("team/app");
    let there = std::process::Command::new("git")
        .arg("-C")
        .arg(bare)
        .args(["ls-tree", &view.branch, "third party/lib"])
        .output();
    let there = String::from_utf8(there.unwrap().stdout).unwrap();
    assert!(there.starts_with("160000 commit "), "{there}");
}

/// A session that was put away and whose kept files are gone begins with its checkpoint, submodules and all.
#[tokio::test(flavor = "multi_thread")]
async fn submodules_are_there_again_when_what_was_kept_of_a_session_is_gone() {
    let script = |_: &str| {
        let look = || [bash("cat 'third party/lib/lib.txt'"), Turn::text("done")];
        Script::default().when(When::last_user("^first"), look()).when(When::last_user("^second"), look())
    };
    let world = World::serving(publish, script, "[sandbox]\nidle_seconds = 1\n").await;
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let body = json!({ "prompt": "first", "repository": { "type": "url", "url": world.url } });
    let session: SessionView = world.server.post("/sessions", &body).await.is(201).json();
    until_put_away(&world.server, session.id, 1).await;
    let (layers, away) = (world.server.data().join("layers"), world.server.data().join("tmp/away"));
    std::fs::create_dir(&away).unwrap();
    for layer in std::fs::read_dir(&layers).unwrap().flatten() {
        std::fs::rename(layer.path(), away.join(layer.file_name())).unwrap();
    }
    world.server.prompt(session.id, "second").await;
    let events = world.server.until_rest(session.id, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "lib");
    let clones = events.iter().filter(|event| {
        matches!(&event.body, EventBody::StepOutput { step: Step::Workspace, text } if text.contains("`gone` is left empty"))
    });
    assert_eq!(clones.count(), 2, "the workspace was made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_opens_submodules_of_others() {
    let look = "cat other/secret.txt";
    let more = "submodules = [\"SITE/other/\"]";
    let world = World::serving(publish, |_| Script::by_depth([bash(look), Turn::text("done")]), more).await;
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let outcome = world.task().await.exits(0).json();
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, _) = check_log(&world.server, session).await;
    assert_eq!(last_result(&events), "nobody else");
}
