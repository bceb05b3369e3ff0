//! One life of the server: from the opening of its data directory to its death.
//!
//! ```text
//!   open ─▶ check ─▶ recover ─▶ clients act ─┬─▶ it dies: at a commit, or at any moment ─▶ the next life
//!                                            └─▶ the last one: all heals, rests, is checked
//! ```

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use egress::client::Egress;
use forge::Forges;
use futures::FutureExt as _;
use git_proxy::{FetchRules, GitGateway, Repositories};
use jiff::Timestamp;
use model_gateway::front::{Allowed, ModelGateway};
use model_gateway::{Auth, ModelClient, ModelConfig, RetryPolicy, Secret};
use protocol::environment::{EnvironmentSettings, NetworkLevel};
use protocol::status::{SandboxPhase, TurnPhase};
use protocol::view::SessionView;
use sandbox::client::SandboxHost;
use session::{Agents, Deadlines, ModelSource, SessionConfig, Sessions};
use store::{Clock, Fate, Notice, Steps, Store, Subscription};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::check::{self, When};
use crate::clients::Client;
use crate::config;
use crate::far_side::FarSide;
use crate::kernel;
use crate::model;
use crate::world::{Sent, Shared};

/// How long it may take until all rests, once nothing fails any more.
const HEALED: Duration = Duration::from_secs(3 * 3600);

/// Lives the life; the last one ends when all rests.
pub(crate) fn run(world: &Shared, dir: &Path, number: u32, last: bool) {
    let runtime = kernel::runtime();
    {
        let mut world = world.lock();
        (world.dead, world.heals) = (false, last);
        world.tell(format!("life {number} begins"));
    }
    runtime.block_on(async {
        kernel::begin_life();
        live(world, dir, last).await;
        let pause = Duration::from_millis(world.roll(100..20_000));
        world.tell("life ends");
        kernel::end_life(pause);
    });
    // What blocks is done, as the kernel would do it; everything else goes as it stands.
    world.lock().dead = true;
    kernel::let_blocking_run();
}

async fn live(world: &Shared, dir: &Path, last: bool) {
    let far_side = FarSide::start(world, dir);
    let model = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", model.local_addr().unwrap());
    tokio::spawn(model::serve(world.clone(), model));
    let (store, steps) = Store::open_in_steps(&dir.join("data"), Clock::new(Timestamp::now)).unwrap();
    check::all(world, &store, When::AfterCrash).await;
    let died = Arc::new(Notify::new());
    let mut viewer = store.subscribe_all();
    tokio::spawn(write(world.clone(), steps, Arc::clone(&died)));
    let life = {
        let (world, store, dir) = (world.clone(), store.clone(), dir.to_owned());
        tokio::spawn(async move {
            let servers = servers(&store, &far_side, &dir, &address).await;
            serve(&world, servers, &dir, last).await;
            if last {
                settle(&world, &store).await;
            }
        })
    };
    let lasts = Duration::from_millis(world.roll(2_000..240_000));
    let ends = async {
        if last {
            life.await.unwrap();
        } else {
            tokio::time::sleep(lasts).await;
        }
    };
    watch(world, &mut viewer, ends, &died).await;
    if last {
        check::all(world, &store, When::AtRest).await;
    }
}

/// Sees what is published until the life ends, and what came just before.
async fn watch(world: &Shared, viewer: &mut Subscription, ends: impl Future<Output = ()>, died: &Notify) {
    tokio::pin!(ends);
    loop {
        tokio::select! {
            biased;
            notice = viewer.next() => see(world, notice.ok().flatten()),
            () = died.notified() => break,
            () = &mut ends => break,
        }
    }
    while let Some(notice) = viewer.next().now_or_never() {
        see(world, notice.ok().flatten());
    }
}

fn see(world: &Shared, notice: Option<Notice>) {
    match notice {
        Some(Notice::Appended { events, .. }) => events.iter().for_each(|event| world.lock().see(event)),
        Some(Notice::Deleted { session }) => {
            let mut world = world.lock();
            world.tell(format!("viewers lose {session}"));
            world.published.remove(&session);
        }
        _ => {}
    }
}

/// The disk: each batch takes its time, and ends as the dice say.
async fn write(world: Shared, mut steps: Steps, died: Arc<Notify>) {
    while steps.asked().await {
        world.wait(0..9).await;
        let fate = match (world.fault(90), world.fault(250)) {
            (true, _) if world.one_in(2) => Fate::LostBefore,
            (true, _) => Fate::LostAfter,
            (_, true) => Fate::Refused,
            _ => Fate::Kept,
        };
        if fate != Fate::Kept {
            world.tell(format!("disk {fate:?}"));
        }
        steps.step(fate);
        if matches!(fate, Fate::LostBefore | Fate::LostAfter) {
            world.lock().dead = true;
            died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The ways to other machines, of which only that to the model is gone. They are made once in a process: each reads
/// all authorities of the system.
fn ways() -> &'static (ModelGateway, GitGateway, Forges) {
    static WAYS: OnceLock<(ModelGateway, GitGateway, Forges)> = OnceLock::new();
    WAYS.get_or_init(|| {
        let addresses = FetchRules::default().addresses;
        let git = GitGateway::new(addresses.clone(), "").unwrap();
        let forges = Forges::new(addresses, "", Duration::from_secs(1)).unwrap();
        (ModelGateway::new(None, Allowed::default(), None).unwrap(), git, forges)
    })
}

/// Two servers over one store.
async fn servers(store: &Store, far_side: &FarSide, dir: &Path, model: &str) -> [Sessions; 2] {
    let mut config = ModelConfig::new(model, Auth::ApiKey(Secret::new("key")), "simulated");
    config.idle_timeout = Duration::from_secs(60);
    let retry = RetryPolicy { attempts: 6, jitter: Arc::new(|| 0.5), ..RetryPolicy::default() };
    let client = ModelClient::new(config).unwrap().with_retry(retry);
    let mut both = Vec::new();
    for _ in 0..2 {
        let config = config_of(dir);
        let repositories = Repositories::open(&dir.join("data")).await.unwrap();
        let host = SandboxHost::connect(&far_side.host_socket());
        let egress = Egress::connect(&far_side.egress_socket());
        let agents = Agents::new(ModelSource::Ready(client.clone()), Vec::new());
        both.push(Sessions::new(store.clone(), repositories, host, egress, ways().clone(), agents, config));
    }
    let second = both.pop().unwrap();
    [both.pop().unwrap(), second]
}

fn config_of(dir: &Path) -> SessionConfig {
    SessionConfig {
        idle: Some(Duration::from_secs(60)),
        checkpoint_every: Duration::from_secs(20),
        caps: session::Caps { finish_check: false, ..session::Caps::default() },
        deadlines: Deadlines { question: Duration::from_secs(60), ..Deadlines::default() },
        ..config::alone(dir)
    }
}

/// Starts the server, and its clients.
async fn serve(world: &Shared, servers: [Sessions; 2], dir: &Path, last: bool) {
    let default = EnvironmentSettings {
        cache_setup: false,
        network: NetworkLevel::None {},
        ..EnvironmentSettings::named("default")
    };
    // A disk that refuses a write lets a server not start; the supervisor starts the next one.
    while let Err(error) = servers[0].ensure_default_environment(default.clone()).await {
        world.tell(format!("server does not start: {error}"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    while let Err(error) = servers[0].recover().await {
        world.tell(format!("server does not recover: {error}"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.tell("server is there");
    let count = if last { 1 } else { 2 };
    let clients = (0..count).map(|number| {
        let (world, servers, bundle) = (world.clone(), servers.clone(), dir.join("upload"));
        tokio::spawn(Client { world, servers, bundle, number }.run())
    });
    let clients: Vec<_> = clients.collect();
    if last {
        for client in clients {
            client.await.unwrap();
        }
        heal(world, &servers[0]).await;
    }
    // They live as long as the runtime.
    tokio::spawn(async move {
        let _servers = servers;
        std::future::pending::<()>().await;
    });
}

/// Tries failed preparations again until none waits.
async fn heal(world: &Shared, server: &Sessions) {
    let ids: Vec<_> = {
        let world = world.lock();
        world.sessions.iter().filter(|record| !record.deleted).filter_map(|record| record.id).collect()
    };
    for id in ids {
        if let Ok(handle) = server.handle(id).await {
            let _ = handle.retry().await;
        }
    }
}

/// Waits until nothing is asked for, open or under way.
async fn settle(world: &Shared, store: &Store) {
    let until = tokio::time::Instant::now() + HEALED;
    loop {
        let mut views: Vec<SessionView> = store.sessions(false, None, 1000).await.unwrap();
        views.extend(store.sessions(true, None, 1000).await.unwrap());
        let rests = |view: &SessionView| {
            !view.status.is_busy() && view.turn == TurnPhase::Idle && view.queued_prompts == 0
                // It is put away, and what it left is seen to.
                && view.sandbox != SandboxPhase::Ready
        };
        let pending = world.lock().prompts.iter().any(|record| record.state == Sent::Pending);
        if views.iter().all(rests) && !pending {
            world.tell("all rests");
            // What goes in the background goes.
            tokio::time::sleep(Duration::from_secs(120)).await;
            return;
        }
        if tokio::time::Instant::now() > until {
            world.broken("it never rests, though nothing fails any more");
            return;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}
