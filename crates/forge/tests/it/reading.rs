//! Questions: pages, kept answers, names that changed, logs without the token.

use forge::NewComment;
use testkit::fake_forge::{Check, Fault, Grant};
use testkit::harness::Repo;

use super::{THING, TOKEN, World, proposal};

#[tokio::test]
async fn lists_go_over_all_pages() {
    let world = World::start().await;
    let tip = world.fake.git(THING, &["rev-parse", "main"]);
    for number in 0..130 {
        world.fake.git(THING, &["update-ref", &format!("refs/heads/b{number:03}"), &tip]);
    }
    world.fake.publish("team/other", &Repo::with("other", &[("a", "b")]));
    world.fake.protect(THING, "main");
    let branches = world.github.branches(&world.name).await.unwrap();
    assert_eq!(branches.len(), 131);
    assert!(
        branches.iter().all(|branch| branch.commit.sha == tip && branch.protected == (branch.name == "main"))
    );
    let names: Vec<String> =
        world.github.repositories().await.unwrap().into_iter().map(|one| one.full_name).collect();
    assert_eq!(names, [THING, "team/other"]);
    assert_eq!(world.github.branch(&world.name, "none/such").await.unwrap(), None);
    assert_eq!(world.github.user().await.unwrap().login, "me");
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again_and_is_of_one_token() {
    let world = World::start().await;
    let first = world.github.repository(&world.name).await.unwrap();
    assert_eq!(world.github.repository(&world.name).await.unwrap(), first);
    let asked = world.fake.requests("GET /api/v3/repos/team/thing");
    assert!(!asked[0].1.contains_key("if-none-match") && asked[1].1.contains_key("if-none-match"));
    world.fake.rename(THING, "team/better");
    // Under its old name it is found where it is now.
    assert_eq!(world.github.repository(&world.name).await.unwrap().full_name, "team/better");
    let other = "another-token-1234";
    world.fake.allow(other, Grant { login: "x".into(), push: false, only: Some(vec![]) });
    let theirs = world.forges.at(super::address(&world.fake), Some(forge::Token::new(other)));
    assert!(theirs.repository(&world.name).await.unwrap_err().to_string().contains("renamed or deleted"));
}

#[tokio::test]
async fn a_question_is_asked_again_when_no_answer_came() {
    let world = World::start().await;
    world.fake.fault("GET", Fault::Status(502), 2);
    assert_eq!(world.github.repository(&world.name).await.unwrap().default_branch, "main");
    world.fake.fault("GET", Fault::Status(502), 3);
    let error = world.github.repository(&world.name).await.unwrap_err().to_string();
    assert!(error.contains("answered 502 when asked to read repository team/thing"), "{error}");
}

#[tokio::test]
async fn issues_reviews_and_comments_are_read_and_written_once() {
    let world = World::start().await;
    world.branch("a");
    let number = world.fake.open_issue(THING, "It is slow", "Very.");
    let issue = world.github.issue(&world.name, number).await.unwrap();
    assert_eq!((issue.title.as_str(), issue.user.unwrap().login.as_str()), ("It is slow", "someone"));
    assert_eq!(world.github.issues(&world.name).await.unwrap().len(), 1);
    let comments = format!("POST /api/v3/repos/team/thing/issues/{number}/comments");
    world.fake.fault(&comments, Fault::Lost, 1);
    let new = NewComment { body: "Looking. <!-- c1 -->".into(), mark: "c1".into() };
    let comment = world.github.comment(&world.name, number, &new).await.unwrap();
    assert_eq!(world.github.comment(&world.name, number, &new).await.unwrap().id, comment.id);
    assert_eq!(world.fake.comments(THING, number).len(), 1);
    let pull = world.github.open_pull(&world.name, &proposal("a")).await.unwrap().number;
    let first = world.fake.comment_line(THING, pull, "new.txt", 1, "Why?");
    world.fake.fault("/replies", Fault::Lost, 1);
    let answer = NewComment { body: "Because. <!-- c2 -->".into(), mark: "c2".into() };
    let reply = world.github.reply(&world.name, (pull, first), &answer).await.unwrap();
    assert_eq!((reply.in_reply_to_id, reply.path.as_str(), reply.line), (Some(first), "new.txt", Some(1)));
    assert_eq!(world.github.review_comments(&world.name, pull).await.unwrap().len(), 2);
    assert_eq!(world.github.reviews(&world.name, pull).await.unwrap(), []);
}

#[tokio::test]
async fn checks_their_remarks_and_the_end_of_a_log() {
    let world = World::start().await;
    world.branch("a");
    let commit = world.fake.git(THING, &["rev-parse", "a"]);
    let log = format!("{}##[error] it broke\n", "line\n".repeat(100_000));
    let failed = Check {
        commit: commit.clone(),
        name: "test".into(),
        conclusion: Some("failure".into()),
        annotations: vec![("new.txt".into(), 3, "no".into())],
        log,
        status_only: false,
    };
    let id = world.fake.set_check(THING, failed);
    let old = Check { commit: commit.clone(), name: "ci/old".into(), status_only: true, ..Check::default() };
    world.fake.set_check(THING, old);
    let checks = world.github.checks(&world.name, &commit).await.unwrap();
    assert_eq!((checks.runs[0].id, checks.runs[0].conclusion.as_deref()), (id, Some("failure")));
    assert_eq!(
        (checks.statuses[0].context.as_str(), checks.statuses[0].state.as_str()),
        ("ci/old", "pending")
    );
    let remarks = world.github.annotations(&world.name, id).await.unwrap();
    assert_eq!((remarks[0].path.as_str(), remarks[0].start_line), ("new.txt", 3));
    let tail = world.github.job_log(&world.name, id, 1000).await.unwrap();
    assert!(tail.len() == 1000 && tail.ends_with("##[error] it broke\n"), "{tail}");
    // The signed address is another host's: it hears no token.
    let (_, headers) = world.fake.requests("GET /_logs/").pop().unwrap();
    assert!(!format!("{headers:?}").contains(TOKEN) && !headers.contains_key("authorization"));
}
