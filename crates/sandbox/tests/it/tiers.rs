//! Tiers: each gives what it promises, and nothing weaker is started in its place.

use protocol::sandbox_host::{HostErrorCode, REPOSITORY_MOUNT};
use protocol::sandbox_spec::{SandboxSpec, Tier, TierRequest};
use sandbox::client::SandboxHostError;

use crate::world::{Setting, World, is_root, limits, sandbox_id, sh, slim};

fn of(tier: TierRequest) -> SandboxSpec {
    SandboxSpec { tier, ..slim(limits()) }
}

#[tokio::test]
async fn gvisor_is_a_kernel_of_its_own_with_the_same_guest() {
    if !is_root() {
        return;
    }
    let mut world = World::start();
    let session = world.session();
    let spec = of(TierRequest::AtLeast(Tier::Gvisor));
    let made = world.host.create(sandbox_id(), Some(session), spec).await.unwrap();
    assert_eq!(
        (made.tier, &*made.runtime, made.attachment.guest_socket.is_none()),
        (Tier::Gvisor, "runsc", true)
    );
    let link = world.host.link(&made).await.unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(sh(&link, "uname -r").await, host.trim());
    assert_eq!(sh(&link, &format!("cat {REPOSITORY_MOUNT}/HEAD")).await, "ref: refs/heads/main");
    sh(&link, "echo kept >/root/file && touch /etc/new && ! touch /run/patchyard/bin/new 2>/dev/null").await;
    // A new sandbox-host, a new link: the same sandbox.
    world.kill_host();
    world.start_host();
    assert_eq!(world.host.list().await.unwrap(), std::slice::from_ref(&made));
    let link = world.host.link(&made).await.unwrap();
    assert_eq!(sh(&link, "cat /root/file").await, "kept");
    world.host.destroy(made.attachment.sandbox).await.unwrap();
    assert!(crate::world::processes_with(&made.attachment.sandbox.to_string()).is_empty());
}

#[tokio::test]
async fn a_tier_that_cannot_be_had_is_refused_with_the_reason() {
    if !is_root() {
        return;
    }
    let world = World::with(Setting { runtime: Some("crun"), ..Setting::default() });
    for (request, words) in [
        (TierRequest::AtLeast(Tier::Gvisor), "at least gvisor"),
        (TierRequest::Exactly(Tier::Gvisor), "PATCHYARD_RUNTIME names another one"),
        (TierRequest::AtLeast(Tier::Vm), "tier vm"),
    ] {
        let refused = world.host.create(sandbox_id(), Some(world.session()), of(request)).await.unwrap_err();
        let SandboxHostError::Failed { code, message } = refused else { panic!("{refused:?}") };
        assert_eq!(code, HostErrorCode::NoTier, "{message}");
        assert!(message.contains(words) && message.contains("nothing weaker is started"), "{message}");
    }
    assert!(world.host.list().await.unwrap().is_empty());
    let spec = of(TierRequest::AtLeast(Tier::Container));
    let made = world.host.create(sandbox_id(), Some(world.session()), spec).await.unwrap();
    assert_eq!(made.tier, Tier::Container);
}
