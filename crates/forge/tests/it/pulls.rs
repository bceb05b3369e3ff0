//! Pull requests: one for a branch, whatever is lost on the way.

use forge::{EditPull, ForgeError};
use testkit::fake_forge::Fault;

use super::{THING, World, proposal};

const OPEN: &str = "POST /api/v3/repos/team/thing/pulls";

#[tokio::test]
async fn a_pull_request_is_opened_changed_and_read() {
    let world = World::start().await;
    world.branch("feature/a");
    let mut new = proposal("feature/a");
    new.draft = true;
    let pull = world.github.open_pull(&world.name, &new).await.unwrap();
    assert_eq!((pull.number, pull.draft, pull.state.as_str()), (1, true, "open"));
    assert_eq!(pull.head.sha, world.fake.git(THING, &["rev-parse", "feature/a"]));
    assert_eq!(world.github.pull_for(&world.name, "feature/a").await.unwrap().unwrap().number, 1);
    assert_eq!(world.github.pull_for(&world.name, "main").await.unwrap(), None);
    let edit = EditPull { title: Some("Better".into()), open: Some(false), ..EditPull::default() };
    let changed = world.github.edit_pull(&world.name, 1, &edit).await.unwrap();
    assert_eq!((changed.title.as_str(), changed.state.as_str()), ("Better", "closed"));
    assert_eq!(changed.body, pull.body);
    let files = world.github.pull_files(&world.name, 1).await.unwrap();
    assert_eq!((files.len(), files[0].filename.as_str(), files[0].additions), (1, "new.txt", 1));
    assert!(world.github.pull_diff(&world.name, 1).await.unwrap().contains("+feature/a"));
    let page = world.github.compose_page(&world.name, &new).unwrap();
    let wanted =
        format!("{}/team/thing/compare/main...feature%2Fa?expand=1&title=Work", world.fake.address());
    assert!(page.starts_with(&wanted), "{page}");
}

#[tokio::test]
async fn a_lost_answer_doubles_nothing() {
    let world = World::start().await;
    world.branch("a");
    world.fake.fault(OPEN, Fault::Lost, 1);
    assert_eq!(world.github.open_pull(&world.name, &proposal("a")).await.unwrap().number, 1);
    // The same by another try, as after a crash.
    assert_eq!(world.github.open_pull(&world.name, &proposal("a")).await.unwrap().number, 1);
    assert_eq!((world.fake.pulls(THING).len(), world.fake.requests(OPEN).len()), (1, 1));
    // One that did not arrive is sent again.
    world.branch("b");
    world.fake.fault(OPEN, Fault::Status(503), 1);
    assert_eq!(world.github.open_pull(&world.name, &proposal("b")).await.unwrap().number, 2);
    // One that was made, and closed by somebody before the server knew, is known by its mark.
    world.fake.close(THING, 2, false);
    let found = world.github.open_pull(&world.name, &proposal("b")).await.unwrap();
    assert_eq!((found.number, found.state.as_str()), (2, "closed"));
    // A later one is another one.
    let mut later = proposal("b");
    (later.body, later.mark) = ("again <!-- mark-2 -->".into(), "mark-2".into());
    assert_eq!(world.github.open_pull(&world.name, &later).await.unwrap().number, 3);
    // The answer is lost twice, and the forge says no to the second: it was made.
    world.branch("c");
    world.fake.fault(OPEN, Fault::Lost, 1);
    world.fake.fault("GET /api/v3/repos/team/thing/pulls?head=team%3Ac", Fault::Status(500), 1);
    assert_eq!(world.github.open_pull(&world.name, &proposal("c")).await.unwrap().number, 4);
}

#[tokio::test]
async fn what_cannot_be_proposed_is_told_in_the_words_of_the_forge() {
    let world = World::start().await;
    let of = async |head: &str, base: &str| {
        let mut new = proposal(head);
        base.clone_into(&mut new.base);
        world.github.open_pull(&world.name, &new).await.unwrap_err()
    };
    world.branch("a");
    assert!(of("gone", "main").await.to_string().contains("head is invalid"));
    assert!(of("a", "gone").await.to_string().contains("base is invalid"));
    let none = of("main", "a").await;
    assert!(matches!(none, ForgeError::Refused { .. }), "{none}");
    assert!(
        none.to_string().contains("refused to open a pull request in team/thing: No commits between"),
        "{none}"
    );
}
