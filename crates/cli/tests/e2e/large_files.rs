//! Large files (git LFS): real ones in the workspace, the new ones where the branch goes, in every image.
//!
//! ```text
//!  GitHost: pointers in the repository, content beside it ─▶ server ─▶ workspace: content, `git status` clean
//!  workspace: new content ─▶ checkpoint: pointer, and the content beside the session's repository ─▶ GitHost
//! ```

use std::process::Command;

use protocol::event::{Event, EventBody};
use protocol::git::{GitPush, PushOutcome, PushedBy};
use protocol::ids::SessionId;
use testkit::harness::{GitHost, LFS_SECRET, LfsFault, Repo, oid_of, pointer_to};
use testkit::model::{Script, Turn};

use crate::forge::{TOKEN, World};
use crate::submodules::of_workspace;
use crate::world::{bash, check_log, last_result};

const MODEL: &[u8] = b"\x00\x01weights of a model, as large as one likes\xff\n";

const LOST: &[u8] = b"this one was never sent";

/// Publishes `team/app` with a large file that is there and one that is not; its address.
fn publish(host: &GitHost) -> String {
    let app = Repo::with("app", &[(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")]);
    app.write("model.bin", pointer_to(MODEL));
    app.write("deep/lost.bin", pointer_to(LOST));
    app.write("pointer.txt", pointer_to(MODEL));
    app.commit("Large files");
    host.keep_large(MODEL);
    host.publish_as(&app, "team/app")
}

fn there(world: &World, name: &str) -> String {
    let bare = world.host.bare("team/app");
    let output = Command::new("git").arg("-C").arg(bare).args(["cat-file", "blob", name]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn session(world: &World) -> (SessionId, Vec<Event>) {
    let outcome = world.task().await.exits(0).json();
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, _) = check_log(&world.server, session).await;
    (session, events)
}

fn last_push(events: &[Event]) -> &GitPush {
    let push = events.iter().rev().find_map(|event| match &event.body {
        EventBody::GitPush(push) => Some(push),
        _ => None,
    });
    push.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_come_in_and_new_ones_go_out_before_their_branch() {
    let work = "exec 2>&1; sha256sum model.bin; wc -c < deep/lost.bin; head -n 1 pointer.txt; git status --porcelain; \
        printf 'new content' > new.bin; printf 'other content' > model.bin; git diff --stat | tail -n 1; \
        git add .; git commit -q -m New; git show HEAD:new.bin | head -n 1; rm new.bin; git checkout -q new.bin; cat new.bin";
    let world = World::serving(publish, |_| Script::by_depth([bash(work), Turn::text("done")]), "").await;
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let (id, events) = session(&world).await;
    let said = last_result(&events);
    let version = "version https://git-lfs.github.com/spec/v1\n";
    let wanted = format!("{}  model.bin\n{}\n{version} ", oid_of(MODEL), pointer_to(LOST).len());
    assert!(said.starts_with(&wanted), "and nothing has changed: {said}");
    assert!(said.contains("1 file changed") && said.ends_with(&format!("{version}new content")), "{said}");
    let step = of_workspace(&events);
    assert!(step.contains("1 large file (LFS) stays a pointer, 1 MB: Object does not exist."), "{step}");

    let push = last_push(&events);
    assert_eq!((push.by, push.outcome), (PushedBy::Server, PushOutcome::Done), "{push:?}");
    let (_, view) = check_log(&world.server, id).await;
    assert_eq!(there(&world, &format!("{}:new.bin", view.branch)), pointer_to(b"new content"));
    assert_eq!(there(&world, &format!("{}:model.bin", view.branch)), pointer_to(b"other content"));
    for content in [b"new content".as_slice(), b"other content"] {
        assert!(
            world.host.has_large(&oid_of(content)) && world.host.verified_large().contains(&oid_of(content))
        );
    }
    // The next sandbox has it from here, whatever becomes of this one.
    let oid = oid_of(b"other content");
    let kept = format!("repos/{id}.git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]);
    assert_eq!(std::fs::read(world.server.data().join(kept)).unwrap(), b"other content");
    world.is_nowhere(id).await;
    let events = world.server.get(&format!("/sessions/{id}/events")).await.is(200).text();
    assert!(!events.contains(LFS_SECRET) && !world.server.log().contains(LFS_SECRET));
    world.model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_whose_large_files_cannot_be_sent_is_not_pushed_and_says_why() {
    // A pointer to what nobody has.
    let text = pointer_to(b"nowhere at all").replace('\n', "\\n");
    let work = format!("printf '{text}' > evil.bin; git add evil.bin; git commit -q -m Evil; echo made");
    let world = World::serving(publish, |_| Script::by_depth([bash(&work), Turn::text("done")]), "").await;
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let (id, events) = session(&world).await;
    let push = last_push(&events);
    let words = push.words.as_deref().unwrap_or_default();
    assert_eq!(push.outcome, PushOutcome::Failed, "{push:?}");
    assert!(
        words.contains("1 of its large files (LFS) cannot be sent") && words.contains("nor in this session"),
        "{words}"
    );
    let (_, view) = check_log(&world.server, id).await;
    assert_eq!(there(&world, &format!("{}:evil.bin", view.branch)), "", "the branch is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_object_is_not_delivered_and_limits_are_told() {
    let look = || Script::by_depth([bash("head -n 1 model.bin"), Turn::text("done")]);
    let fault = |host: &GitHost| {
        host.fail_large(LfsFault::Corrupt);
        publish(host)
    };
    for (more, told) in [
        ("", "1 large file (LFS) stays a pointer, 1 MB: the object is not what its name says"),
        (
            "lfs_bytes = 10",
            "2 large files (LFS) stay pointers, 1 MB: they are more than a session begins with",
        ),
    ] {
        let world = World::serving(fault, |_| look(), more).await;
        world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
        let (_, events) = session(&world).await;
        assert!(last_result(&events).starts_with("version https://git-lfs"), "{}", last_result(&events));
        let step = of_workspace(&events);
        assert!(step.contains(told), "{step}");
    }
}
