//! Sessions come and go while the server and `sandbox-host` are killed in the middle of it: nothing is
//! left, and nothing that was asked for is lost.
//!
//! ```text
//!   POST ─▶ a turn whose command leaves a daemon ─▶ DELETE       again and again; every so often, at a
//!    ▲                                                │          random moment, kill -9 of one of the two;
//!    └────────────────────────────────────────────────┘          whoever asks goes on asking
//! ```
//!
//! `PATCHYARD_CHURN` says how many; `make test-churn` runs a thousand.

use std::time::Duration;

use serde_json::Value;
use testkit::harness::Part;
use testkit::model::{Script, ScriptedModel, Turn, When};
use ulid::Ulid;

use crate::insist::{create, delete, settle};
use crate::leaks::{Watch, nothing_left};
use crate::world::{bash, check_log, serve, small_repo};

/// Cycles where nobody says how many.
const FEW: u64 = 10;

/// A command that would like to outlive its session.
const STAY: &str = "echo x > x; (setsid sleep 1000 >/dev/null 2>&1 &)";

#[tokio::test(flavor = "multi_thread")]
async fn l03_a_churn_of_sessions_with_killed_servers_leaves_nothing() {
    let cycles = std::env::var("PATCHYARD_CHURN").ok().and_then(|count| count.parse().ok()).unwrap_or(FEW);
    // One in twenty where there are many.
    let every = (cycles / 5).clamp(2, 20);
    let script =
        Script::default().many_conversations().when(When::last_user("^go"), [bash(STAY), Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).start().await;
    let (repo, watch) = (small_repo("churn"), Watch::over(server.data()));
    let (mut kills, mut deleted_at_once) = ([0, 0], 0);
    for number in 1..=cycles {
        if number % every != every / 2 {
            let session = create(&server, &repo, &format!("go {}", Ulid::generate())).await;
            server.until_rest(session, 1).await;
            check_log(&server, session).await;
            delete(&server, session).await;
            continue;
        }
        let which = usize::try_from(random(2)).unwrap();
        kills[which] += 1;
        let kill = async {
            tokio::time::sleep(Duration::from_millis(random(700))).await;
            server.kill_child([Part::Server, Part::SandboxHost][which]);
        };
        // Half of them are not waited for: a deletion in the middle of everything.
        let is_awaited = random(2) == 0;
        deleted_at_once += u64::from(!is_awaited);
        let work = async {
            let session = create(&server, &repo, &format!("go {}", Ulid::generate())).await;
            if is_awaited {
                settle(&server, session, 1).await;
            }
            delete(&server, session).await;
        };
        tokio::join!(kill, work);
    }
    println!("{cycles} cycles, {} kills of the server, {} of sandbox-host", kills[0], kills[1]);
    assert!(kills[0] + kills[1] > 0);
    let sessions: Value = server.get("/sessions").await.is(200).json();
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(0), "{sessions}");
    nothing_left(&server, &watch, None).await;
    let host = server.pid(Part::SandboxHost);
    assert_eq!(server.stop().await, Some(0));
    nothing_left(&server, &watch, Some(host)).await;
    // Who is deleted at once may never have had one.
    let seen = watch.ids().len() as u64 + deleted_at_once;
    assert!(seen + 5 >= cycles, "the watch saw {} sandboxes only", watch.ids().len());
}

/// A number that nobody can foresee.
fn random(below: u128) -> u64 {
    u64::try_from(Ulid::generate().random() % below).unwrap()
}
