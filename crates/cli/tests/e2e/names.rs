//! Names that change, lead elsewhere, or are sent elsewhere; and a sandbox that opens all the connections that
//! it can.

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use serde_json::{Value, json};
use testkit::harness::Repo;
use testkit::internet::alone;

use crate::egress::World;
use crate::world::results;

/// Rows R08, R09, R13 of the escape matrix: what is dialled is what was looked at.
#[test]
fn names_that_change_or_lead_elsewhere_reach_nothing_that_was_not_looked_at() {
    alone(|internet| async move {
        let ask = |path: &str| {
            format!(
                "curl -sS -L -o /tmp/body -D - --max-time 10 'http://{path}' | tr -d '\\r'; cat /tmp/body"
            )
        };
        let commands = [
            ask("turns.wild.test/one"),
            ask("turns.wild.test/two"),
            ask("alias.wild.test/"),
            ask("inner.wild.test/"),
            ask("other.wild.test/"),
            ask("api.allowed.test/?away=http://169.254.169.254/latest"),
            ask("api.allowed.test/?away=http://evil.test/"),
        ];
        let world = World::start(internet, &commands.each_ref().map(String::as_str)).await;
        world.names.set("turns.wild.test", &["93.184.216.34"]);
        world.names.then("turns.wild.test", &["127.0.0.1"]);
        world.names.set("metadata.google.internal", &["169.254.169.254"]);
        world.names.alias("alias.wild.test", "metadata.google.internal");
        world.names.set("db.corp.test", &["10.1.2.3"]);
        world.names.alias("inner.wild.test", "db.corp.test");
        world.names.set("cdn.other.test", &["93.184.216.34"]);
        world.names.alias("other.wild.test", "cdn.other.test");
        let (_, said) = world.run().await;
        let wanted = [
            "hello from plain",
            "x-deny-reason: addr_loopback",
            "x-deny-reason: addr_metadata",
            "x-deny-reason: addr_private",
            "hello from plain",
            "x-deny-reason: addr_metadata",
            "x-deny-reason: not_allowed",
        ];
        for ((command, said), wanted) in commands.iter().zip(&said).zip(wanted) {
            assert!(said.contains(wanted), "{command}: {said}");
        }
        // The proxy follows nothing itself: each of those two was asked for by the client.
        assert_eq!(said[5].matches("HTTP/1.1 ").count(), 2, "{}", said[5]);
        let asked = world.names.asked();
        let times = asked.iter().filter(|name| *name == "turns.wild.test").count();
        assert_eq!(times, 4, "two kinds of addresses for each of two connections: {asked:?}");
        world.nothing_leaked();
    });
}

/// Opens connections and sends nothing, says how many stood, and waits.
const FLOOD: &str = r#"python3 - <<'END'
import os, socket, time
held = [socket.create_connection(("127.0.0.1", 3128), timeout=5) for _ in range(1500)]
time.sleep(0.5)
closed = 0
for s in held:
    s.setblocking(False)
    try:
        closed += s.recv(1) == b""
    except OSError as error:
        closed += isinstance(error, ConnectionError)
print("held", len(held) - closed, "of", len(held), flush=True)
open("/tmp/full", "w").close()
while not os.path.exists("/tmp/go"):
    time.sleep(0.1)
END
curl -sS --retry 5 --retry-all-errors --max-time 10 http://api.allowed.test/after"#;

/// Row E09 of the escape matrix.
#[test]
fn a_session_that_opens_all_it_can_takes_no_place_of_another() {
    alone(|internet| async move {
        let world = World::start(internet, &[FLOOD]).await;
        let repo = Repo::with("net", &[("a", "a")]);
        let (full, other) =
            (world.server.create(&repo, "Fill it").await, world.server.create(&repo, "Fill it").await);
        for session in [full, other] {
            inside(&world, session, "until [ -e /tmp/full ]; do sleep 0.1; done").await;
        }
        inside(&world, other, "touch /tmp/go").await;
        let events = world.server.until_rest(other, 1).await;
        let said = results(&events)[0].content.clone();
        assert!(said.contains("hello from plain"), "beside one that holds all its places: {said}");
        inside(&world, full, "touch /tmp/go").await;
        let events = world.server.until_rest(full, 1).await;
        let said = results(&events)[0].content.clone();
        let held: u32 = said.split("held ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(held <= 256 && said.contains("of 1500"), "{said}");
        let page: Value =
            world.server.get(&format!("/sessions/{full}/network?limit=1000")).await.is(200).json();
        let told = page["records"].as_array().unwrap().iter().any(|record| record["reason"] == json!("rate"));
        assert!(told, "{page}");
        world.nothing_leaked();
    });
}

/// Runs a command in a session's sandbox, once the agent's own runs there.
async fn inside(world: &World, session: SessionId, command: &str) {
    let calls = |event: &Event| matches!(event.body, EventBody::ToolCall(_));
    world.server.until(session, |events| events.iter().any(calls)).await;
    let session = session.to_string();
    world.server.cli(&["sessions", "shell", &session, "--", "sh", "-c", command]).await.exits(0);
}
