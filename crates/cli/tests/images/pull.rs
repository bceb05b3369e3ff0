//! Pulling: from the registry as it is, and through what goes wrong.

use sandbox::images::Digest;

use crate::proxy::{Faults, Proxy};
use crate::registry::{PASSWORD, Registry, USER, layer};
use crate::world::World;

/// Bytes that do not pack.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn layers() -> Vec<Vec<u8>> {
    vec![
        layer(&[("usr/bin/tool", b"one"), ("etc/gone", b"x"), ("usr/noise", &noise(300_000))]),
        layer(&[("etc/.wh.gone", b""), ("usr/bin/tool", b"two")]),
    ]
}

#[tokio::test]
async fn an_image_is_pulled_once_and_named_twice() {
    let registry = Registry::start(false);
    registry.push("team/tools", "1", &layers()).await;
    let world = World::new();
    let reference = format!("{}/team/tools:1", registry.address);
    let said = world.image(&["pull", &reference]).good();
    assert!(said.starts_with("pulled tools-1: sha256:"), "{said}");
    assert_eq!(world.read("tools-1", "usr/bin/tool"), "two");
    let again = world.image(&["pull", &format!("mine={reference}")]).good();
    assert!(again.contains("which was here already"), "{again}");
    let list = world.list();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["digest"], list[1]["digest"]);
    assert!(list[0]["source"].as_str().unwrap().starts_with(&format!("{reference} (sha256:")), "{list:?}");
    // The name goes over to what the tag means now; what nobody needs goes.
    registry.push("team/tools", "1", &[layer(&[("usr/bin/tool", b"three")])]).await;
    world.image(&["pull", &reference, "--name", "mine"]).good();
    assert_eq!(world.read("mine", "usr/bin/tool"), "three");
    world.image(&["remove", "tools-1"]).good();
    let trees = std::fs::read_dir(world.path("data/images/.trees")).unwrap().count();
    assert_eq!((trees, world.path("data/images/.pulls").read_dir().unwrap().count()), (1, 0));

    let missing = format!("{}/team/tools:2", registry.address);
    world.image(&["pull", &missing]).says(1, &["has no image team/tools:2", "check the name"]);
    world.image(&["pull", "127.0.0.1:1/x"]).says(3, &["registry 127.0.0.1:1 cannot be reached (5 tries)"]);
    world.image(&["pull", "NOT/A"]).says(2, &["`NOT/A` names no image"]);
    let two = world.image(&["pull", "a=b", "--name", "c"]);
    two.says(2, &["either by NAME=REFERENCE or by --name"]);
}

#[tokio::test]
async fn a_registry_that_wants_a_login_gets_it_and_nobody_reads_it() {
    let registry = Registry::start(true);
    registry.push("private", "latest", &layers()).await;
    let world = World::new();
    let address = registry.address.as_str();
    let reference = format!("{address}/private");
    let hint = format!("patchyard image login {address}");
    world.image(&["pull", &reference]).says(3, &["asks for a password", &hint]);
    let login = ["login", address, "--username", USER, "--password-stdin"];
    world.image_with(&login, "wrong\n").says(3, &["ann may not have it", &hint]);
    assert!(!world.path("data/images/.registries").exists(), "what was refused is not kept");
    assert_eq!(
        world.image_with(&login, &format!("{PASSWORD}\n")).good(),
        format!("signed in to {address}\n")
    );
    world.image(&["pull", &reference]).good();
    assert_eq!(world.read("private", "usr/bin/tool"), "two");
    for entry in world.path("data/images/.registries").read_dir().unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
    }
    world.image(&["logout", address]).good();
    world.image(&["pull", &format!("x={reference}")]).says(3, &["asks for a password"]);
    world.image(&["logout", address]).says(1, &["no login for"]);
}

#[tokio::test]
async fn a_token_is_fetched_for_the_login() {
    let registry = Registry::start(false);
    registry.push("x", "latest", &layers()).await;
    let proxy = Proxy::before(&registry.address, Faults { wants_token: true, ..Faults::default() });
    let world = World::new();
    let reference = format!("{}/x", proxy.address);
    world.image(&["pull", &reference]).says(3, &["the answer for a token is 401", "patchyard image login"]);
    let login = ["login", &proxy.address, "--username", USER, "--password-stdin"];
    world.image_with(&login, PASSWORD).good();
    world.image(&["pull", &reference]).good();
    assert_eq!(world.read("x", "usr/bin/tool"), "two");
}

#[tokio::test]
async fn broken_connections_are_taken_up_where_they_broke() {
    let registry = Registry::start(false);
    let parts = registry.push("x", "latest", &layers()).await;
    let faults = Faults { breaks_off: Some(100_000), busy: 2, ..Faults::default() };
    let proxy = Proxy::before(&registry.address, faults);
    let world = World::new();
    world.image(&["pull", &format!("{}/x", proxy.address)]).good();
    assert_eq!(world.read("x", "usr/bin/tool"), "two");
    let requests = proxy.requests.lock().unwrap();
    let of_big = requests.iter().filter(|request| request.contains(&parts[0].to_string()));
    let ranges: Vec<_> = of_big.filter_map(|request| request.split_once("bytes=")).collect();
    assert!(ranges.len() >= 2, "{requests:?}");
    assert!(ranges.iter().all(|(_, range)| *range != "0-"), "{requests:?}");
}

#[tokio::test]
async fn damage_in_the_registry_is_found_and_the_rest_kept_for_later() {
    let registry = Registry::start(false);
    let parts = registry.push("x", "latest", &layers()).await;
    let stored = registry.stored(&parts[0]);
    let good = std::fs::read(&stored).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&stored, &bad).unwrap();
    let world = World::new();
    let reference = format!("{}/x", registry.address);
    let found = Digest::of(&bad).to_string();
    world.image(&["pull", &reference]).says(1, &["is damaged", &parts[0].to_string(), &found]);
    assert!(world.list().is_empty());
    std::fs::write(&stored, &good).unwrap();
    // What came whole before is not asked for again.
    let proxy = Proxy::before(&registry.address, Faults::default());
    world.image(&["pull", &format!("x={}/x", proxy.address)]).good();
    assert_eq!(world.read("x", "usr/bin/tool"), "two");
    let requests = proxy.requests.lock().unwrap();
    assert!(requests.iter().any(|request| request.contains(&parts[0].to_string())), "{requests:?}");
    assert!(!requests.iter().any(|request| request.contains(&parts[1].to_string())), "{requests:?}");
}

#[tokio::test]
async fn two_at_once_fetch_one_image_once() {
    let registry = Registry::start(false);
    let parts = registry.push("x", "latest", &layers()).await;
    let proxy = Proxy::before(&registry.address, Faults::default());
    let world = World::new();
    std::thread::scope(|scope| {
        for at in 0..4 {
            let (world, address) = (&world, &proxy.address);
            scope.spawn(move || world.image(&["pull", &format!("n{at}={address}/x")]).good());
        }
    });
    let list = world.list();
    assert!(list.len() == 4 && list.iter().all(|image| image["digest"] == list[0]["digest"]), "{list:?}");
    let requests = proxy.requests.lock().unwrap();
    let of_big = requests.iter().filter(|request| request.contains(&parts[0].to_string())).count();
    assert_eq!(of_big, 1, "{requests:?}");
    assert_eq!(world.path("data/images/.pulls").read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_registry_elsewhere_is_spoken_to_encrypted_only() {
    let registry = Registry::start(false);
    let faults = Faults { leads_away: true, ..Faults::default() };
    let proxy = Proxy::before(&registry.address, faults);
    let world = World::new();
    // From this machine to elsewhere, in the clear.
    world.image(&["pull", &format!("{}/x", proxy.address)]).says(3, &["not encrypted"]);
    assert!(world.list().is_empty());
}
