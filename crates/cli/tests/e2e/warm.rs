//! Sandboxes that wait for a session.

use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, completed, last_result, serve, small_repo};

#[tokio::test(flavor = "multi_thread")]
async fn the_next_session_gets_a_sandbox_that_waited_and_nothing_of_the_one_before() {
    let script = Script::by_depth([bash("ls; echo mine > /root/mine; ls /root"), Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).warm().start().await;
    let repo = small_repo("waited-for");
    let first = server.create(&repo, "one").await;
    completed(&server.until_rest(first, 1).await);
    let waiting = loop {
        // No event tells of it: nobody has asked for it yet.
        let all = server.sandboxes();
        if let Some(waiting) = all.into_iter().find(|sandbox| sandbox.session.is_empty()) {
            break waiting;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let second = server.create(&repo, "two").await;
    let events = server.until_rest(second, 1).await;
    completed(&events);
    assert_eq!(last_result(&events), "README.md\nsrc\nmine");
    assert_eq!(server.sandbox_of(second).id, waiting.id, "it was used");
    let data = server.data();
    // What waits goes with the server, and a killed one's is taken away by the next.
    server.kill(testkit::harness::Part::Server).await;
    server.until_rest(second, 1).await;
    server.stop().await;
    for sandbox in server.sandboxes() {
        assert_eq!(sandbox.traces(&data), Vec::<String>::new(), "{:?}", sandbox.id);
    }
    assert!(server.sandboxes().is_empty());
}
