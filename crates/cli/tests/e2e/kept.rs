//! What is kept of setups for later sessions.

use protocol::environment::EnvironmentSettings;
use protocol::event::{Event, EventBody, Step};
use serde_json::json;
use testkit::harness::{Answer, Part, Repo};

use crate::setup::{begin, environment, finished, layers, model_that_runs, now, printed, whole};
use crate::world::{check_log, completed, serve, small_repo};

/// A script whose run can be told from every other run.
const STAMP: &str = "date +%s%N > /etc/stamp; echo ran";

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_leaves_the_workspace_alone_serves_every_commit() {
    let look = "cat /etc/stamp README.md; git status --porcelain; git log -1 --format=%s; git branch -a; git reflog | wc -l";
    let model = model_that_runs(look).await;
    let server = serve().model(&model).start().await;
    let made = environment(&server, "kept", STAMP).await;
    let repo = small_repo("kept");
    let (first, events) = whole(&server, &repo, "kept").await;
    assert!(finished(&events, Step::Cache).unwrap().contains("for later sessions"));
    assert_eq!(layers(&server), 1);
    let caches = now(&server, &made).await.caches;
    assert_eq!((caches.len(), caches[0].wrote_workspace, caches[0].used_at), (1, false, None));
    assert_eq!(
        (caches[0].repository.as_str(), caches[0].commit.as_str()),
        ("kept", repo.git(&["rev-parse", "HEAD"]).as_str())
    );

    let stamp = |text: &str| text.lines().next().unwrap().to_owned();
    let (second, events) = whole(&server, &repo, "kept").await;
    assert_eq!(stamp(&second), stamp(&first), "the script did not run again");
    assert_eq!(finished(&events, Step::Setup), None);
    let told = finished(&events, Step::Workspace).unwrap();
    assert!(told.contains("reused the setup of kept at ") && told.contains("saved"), "{told}");
    let session = events[0].session;
    let branches: Vec<&str> = second.lines().filter(|line| line.contains("patchyard/")).collect();
    assert!(
        branches.iter().all(|line| line.contains(&session.short())),
        "no branch of another session: {second}"
    );
    assert!(now(&server, &made).await.caches[0].used_at.is_some());

    repo.write("README.md", "# Another thing\n");
    repo.git(&["rm", "--quiet", "src/main.py"]);
    repo.commit("Go on");
    let (third, events) = whole(&server, &repo, "kept").await;
    assert_eq!(stamp(&third), stamp(&first));
    assert!(third.contains("# Another thing\nGo on\n"), "clean, and at the other commit: {third}");
    assert!(finished(&events, Step::Workspace).unwrap().contains("reused the setup"), "{events:?}");

    server.cli(&["environments", "refresh", "kept"]).await.exits(0);
    assert_eq!((layers(&server), now(&server, &made).await.caches.len()), (0, 0));
    let (fourth, _) = whole(&server, &repo, "kept").await;
    assert_ne!(stamp(&fourth), stamp(&first));
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_writes_into_the_workspace_serves_its_own_commit_only() {
    let model = model_that_runs("cat /etc/stamp; cat built.txt cache/x").await;
    let server = serve().model(&model).start().await;
    let script = format!("{STAMP}; cat README.md > built.txt; mkdir cache; echo hidden > cache/x");
    let made = environment(&server, "built", &script).await;
    let repo = Repo::with("built", &[("README.md", "one\n"), (".gitignore", "cache/\n")]);
    let (first, _) = whole(&server, &repo, "built").await;
    assert!(first.ends_with("one\nhidden"), "{first}");
    assert!(now(&server, &made).await.caches[0].wrote_workspace);
    let (second, _) = whole(&server, &repo, "built").await;
    assert_eq!(second, first);
    repo.write("README.md", "two\n");
    repo.commit("Go on");
    let (third, events) = whole(&server, &repo, "built").await;
    assert!(third.ends_with("two\nhidden") && finished(&events, Step::Setup).is_some(), "{third}");
    assert_eq!(layers(&server), 1, "the newer one takes the place of the older");
    let (fourth, _) = whole(&server, &repo, "built").await;
    assert_eq!(fourth, third);
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_processes_running_or_shall_not_be_kept_is_not() {
    let model = model_that_runs("cat /etc/stamp; grep -lx sleep /proc/[0-9]*/comm | wc -l").await;
    let server = serve().model(&model).start().await;
    let made =
        environment(&server, "busy", &format!("{STAMP}; sleep 1000 </dev/null >/dev/null 2>&1 &")).await;
    let repo = small_repo("busy");
    let (first, events) = whole(&server, &repo, "busy").await;
    assert!(first.ends_with("\n1"), "what it left runs on in the session: {first}");
    let told = finished(&events, Step::Setup).unwrap();
    for words in ["not kept", "a process running (sleep)", "SessionStart hook"] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(finished(&events, Step::Cache), None);
    let (second, _) = whole(&server, &repo, "busy").await;
    assert_ne!(second, first);

    let settings = EnvironmentSettings {
        cache_setup: false,
        setup_script: STAMP.into(),
        ..EnvironmentSettings::named("off")
    };
    server.post("/environments", &json!(settings)).await.is(201);
    let (_, events) = whole(&server, &repo, "off").await;
    assert_eq!((finished(&events, Step::Setup), finished(&events, Step::Cache)), (Some(String::new()), None));
    assert_eq!((layers(&server), now(&server, &made).await.caches.len()), (0, 0));
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_goes_with_a_change_and_a_damaged_layer_is_built_anew() {
    let model = model_that_runs("cat /etc/stamp; git status --porcelain").await;
    let server = serve().model(&model).start().await;
    let made = environment(&server, "odd", STAMP).await;
    let repo = small_repo("odd");
    let (first, _) = whole(&server, &repo, "odd").await;
    let layer = std::fs::read_dir(server.data().join("layers")).unwrap().flatten().next().unwrap().path();
    std::fs::remove_file(layer.join("layer.json")).unwrap();
    let (second, events) = whole(&server, &repo, "odd").await;
    assert_ne!(second, first);
    assert!(finished(&events, Step::Setup).is_some());

    let settings =
        EnvironmentSettings { variables: "A=1".into(), setup_script: STAMP.into(), ..made.settings.clone() };
    let edit = json!({ "revision": made.revision, "settings": settings });
    Answer::to(server.request(reqwest::Method::PUT, &format!("/environments/{}", made.id)).json(&edit))
        .await
        .is(200);
    assert_eq!(now(&server, &made).await.caches, []);
    let (_, events) = whole(&server, &repo, "odd").await;
    assert!(finished(&events, Step::Setup).is_some());
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_a_setup_prepares_anew_and_leaves_no_layer() {
    let model = model_that_runs("cat /etc/stamp").await;
    let mut server = serve().model(&model).start().await;
    environment(&server, "long", &format!("echo begun; sleep 2; {STAMP}")).await;
    let session = begin(&server, &small_repo("long"), "long").await;
    server.until(session, |events| printed(events, Step::Setup).contains("begun")).await;
    let before = server.sandbox_of(session);
    server.kill(Part::Server).await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let interrupted = |event: &&Event| matches!(&event.body, EventBody::StepFinished { step: Step::Setup, error: Some(error), .. } if error.contains("server stopped"));
    assert_eq!(events.iter().filter(interrupted).count(), 1);
    assert_eq!(before.traces(&server.data()), Vec::<String>::new());
    assert_eq!(layers(&server), 1, "that of the second run");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_workspace_that_cannot_be_verified_is_built_anew() {
    let model = model_that_runs("cat /etc/stamp").await;
    let server = serve().model(&model).start().await;
    // From here on git moves no ref in this workspace: the next session finds that out.
    let hook = ".git/hooks/reference-transaction";
    let script =
        format!("{STAMP}; mkdir -p .git/hooks; printf '#!/bin/sh\nexit 1\n' > {hook}; chmod +x {hook}");
    environment(&server, "stuck", &script).await;
    let repo = small_repo("stuck");
    let (first, events) = whole(&server, &repo, "stuck").await;
    assert!(finished(&events, Step::Cache).unwrap().contains("for later sessions"));
    let (second, events) = whole(&server, &repo, "stuck").await;
    assert_ne!(second, first);
    let told = events.iter().find_map(|event| match &event.body {
        EventBody::StepFinished { step: Step::Workspace, detail, .. } => detail.clone(),
        _ => None,
    });
    assert!(told.unwrap().contains("cannot be used, and all is built anew"), "{events:?}");
    assert_eq!((layers(&server), server.sandboxes().len()), (0, 2), "what was spoilt went");
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_setup_is_used_once_more_and_built_anew_meanwhile() {
    let model = model_that_runs("cat /etc/stamp").await;
    let mut server = serve().model(&model).config("[setup]\ncache_valid_hours = 0\n").start().await;
    let made = environment(&server, "aged", &format!("{STAMP}; echo new > built.txt")).await;
    let repo = small_repo("aged");
    let (first, _) = whole(&server, &repo, "aged").await;
    let before = now(&server, &made).await.caches;
    let (second, events) = whole(&server, &repo, "aged").await;
    assert_eq!(second, first, "used once more");
    assert!(finished(&events, Step::Workspace).unwrap().contains("is built anew meanwhile"));
    // A server that stops waits for what goes on beside its sessions, or ends it.
    let rebuilt = async {
        while now(&server, &made).await.caches[0].created_at == before[0].created_at {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(testkit::harness::DEADLINE, rebuilt).await.expect("the rebuilt layer");
    let (third, _) = whole(&server, &repo, "aged").await;
    assert_ne!(third, first);
    server.stop().await;
    assert_eq!(server.sandboxes(), []);
    let repositories = std::fs::read_dir(server.data().join("repos")).unwrap().count();
    assert_eq!(repositories, 3, "the copies went");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_build_at_once_one_is_kept_and_the_least_used_goes_first() {
    let model = model_that_runs("cat /etc/stamp").await;
    let server = serve().model(&model).config("[setup]\ncache_entries = 1\n").start().await;
    let made = environment(&server, "race", STAMP).await;
    let (repo, other) = (small_repo("race"), small_repo("other"));
    let (one, two) = tokio::join!(whole(&server, &repo, "race"), whole(&server, &repo, "race"));
    assert_eq!((layers(&server), now(&server, &made).await.caches.len()), (1, 1));
    let (third, _) = whole(&server, &repo, "race").await;
    assert!([one.0, two.0].contains(&third), "it stands on what one of them made");
    whole(&server, &other, "race").await;
    let caches = now(&server, &made).await.caches;
    assert_eq!((layers(&server), caches.len(), caches[0].repository.as_str()), (1, 1, "other"));
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_of_kept_setups_goes_at_the_next_start() {
    let model = model_that_runs("cat /etc/stamp").await;
    let mut server = serve().model(&model).start().await;
    let made = environment(&server, "crash", STAMP).await;
    let repo = small_repo("crash");
    let (first, events) = whole(&server, &repo, "crash").await;
    server.cli(&["sessions", "delete", &events[0].session.to_string(), "--yes"]).await.exits(0);
    server.stop().await;
    // A layer that nobody remembers, and a memory whose layer is gone.
    let folder = server.data().join("layers");
    let layer = std::fs::read_dir(&folder).unwrap().flatten().next().unwrap().path();
    std::fs::rename(&layer, folder.join("lay_01JD3Q4F7Z8XK2M5N6P7R8S9TV")).unwrap();
    server.start_again().await;
    assert_eq!((layers(&server), now(&server, &made).await.caches), (0, vec![]));
    let (second, _) = whole(&server, &repo, "crash").await;
    assert_ne!(second, first);
    assert_eq!(layers(&server), 1);
    model.assert_clean();
}
