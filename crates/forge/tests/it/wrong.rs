//! What can be wrong at a forge: each a line with what to do, and no token in it.

use std::time::Duration;

use forge::{ForgeAddress, Forges, Token};
use testkit::fake_forge::{Fault, Grant};
use testkit::internet::Authority;

use super::{THING, TOKEN, World, proposal, rules};

#[tokio::test]
async fn each_fault_is_a_line_with_what_to_do() {
    let world = World::start().await;
    let port = world.fake.host().split_once(':').unwrap().1.to_owned();
    let read = "GET /api/v3/repos/team/thing";
    for (fault, said) in [
        (
            Fault::Status(401),
            "did not accept the stored token: it is wrong, expired or revoked; set another one",
        ),
        (Fault::Status(403), "may not read repository team/thing (it was wanted); give it that permission"),
        (Fault::Status(404), "knows nothing to read repository team/thing: it was renamed or deleted"),
        (Fault::Status(409), "refused to read repository team/thing: it was wanted; change"),
        (Fault::Status(422), "refused to read repository team/thing"),
        (Fault::Status(500), "answered 500 when asked to read repository team/thing; try again later"),
        (Fault::Status(302), "does not answer as a forge does (it redirects to another place)"),
        (Fault::Page, "does not answer as a forge does (line 1, column 1"),
        (Fault::Slow(Duration::from_secs(9)), "stopped answering; try again later"),
    ] {
        // Its own client: no kept answer, no limit of an earlier one.
        let world = World::start().await;
        world.fake.fault(read, fault, 3);
        let error = world.github.repository(&world.name).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(!error.contains('\n') && !error.contains(TOKEN), "{error}");
    }
    let error = world.forges.at(super::address(&world.fake), None).user().await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("no token for 127.0.0.1:{port}; set one with `patchyard web-setup")),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_whose_limit_is_used_up_rests() {
    for (fault, said) in [
        (Fault::Secondary(30), "no more requests with this token for 30 s"),
        (Fault::Exhausted(30), "no more requests with this token for"),
        (Fault::Status(429), "no more requests with this token for 60 s"),
    ] {
        let world = World::start().await;
        world.fake.fault("GET", fault, 1);
        let error = world.github.repository(&world.name).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        let asked = world.fake.requests("").len();
        assert!(world.github.user().await.unwrap_err().to_string().contains("no more requests"));
        assert_eq!(world.fake.requests("").len(), asked, "nothing went out");
        world.fake.allow("another", Grant::all("you"));
        let other = world.forges.at(super::address(&world.fake), Some(Token::new("another")));
        assert_eq!(other.user().await.unwrap().login, "you");
    }
}

#[tokio::test]
async fn the_way_to_a_forge_is_that_of_the_operator() {
    let world = World::start().await;
    let of = async |forges: Forges, address: ForgeAddress| {
        let error = forges.at(address, Some(Token::new(TOKEN))).user().await.unwrap_err().to_string();
        assert!(!error.contains(TOKEN) && !error.contains('\n'), "{error}");
        error
    };
    let patience = Duration::from_secs(2);
    let address = || super::address(&world.fake);
    let stranger = Forges::new(rules(), &Authority::make().pem, patience).unwrap();
    let error = of(stranger, address()).await;
    assert!(error.contains("certificate of 127.0.0.1:") && error.contains("`authorities`"), "{error}");
    let strict = Forges::new(Default::default(), "", patience).unwrap();
    let error = of(strict, address()).await;
    assert!(error.contains("an operator can open it in [[repositories.allow]]"), "{error}");
    let nobody = ForgeAddress::configured("127.0.0.1:1", None).unwrap();
    let error = of(world.forges.clone(), nobody).await;
    assert!(error.contains("cannot be reached"), "{error}");
    let nowhere = ForgeAddress::configured("nowhere.invalid", None).unwrap();
    let error = of(world.forges.clone(), nowhere).await;
    assert!(error.contains("nowhere.invalid does not resolve"), "{error}");
}

#[tokio::test]
async fn a_token_that_may_only_read_is_told_what_it_lacks() {
    let world = World::start().await;
    world.branch("a");
    world.fake.allow(TOKEN, Grant { login: "me".into(), push: false, only: None });
    let error = world.github.open_pull(&world.name, &proposal("a")).await.unwrap_err().to_string();
    let said = "may not open a pull request in team/thing (Resource not accessible by personal access token)";
    assert!(error.contains(said), "{error}");
    assert!(world.fake.pulls(THING).is_empty());
    world.fake.revoke(TOKEN);
    let error = world.github.open_pull(&world.name, &proposal("a")).await.unwrap_err().to_string();
    assert!(error.contains("wrong, expired or revoked"), "{error}");
    world.fake.delete(THING);
    world.fake.allow(TOKEN, Grant::all("me"));
    let error = world.github.open_pull(&world.name, &proposal("a")).await.unwrap_err().to_string();
    assert!(error.contains("it was renamed or deleted"), "{error}");
}
