//! Large files through the door.

use protocol::git::PushOutcome;
use serde_json::{Value, json};
use testkit::harness::{GitHost, LFS_SECRET, LfsFault, oid_of};
use testkit::internet::Authority;

use crate::door::{BASIC, OWN, TOKEN, World, remote, said};

const CONTENT: &[u8] = b"large content, or so it is said\n";

struct Asked {
    world: World,
    http: reqwest::Client,
    lfs: String,
}

impl Asked {
    async fn start() -> Self {
        let authority = Authority::make();
        let host = GitHost::private(&authority, BASIC).await;
        let pem = authority.pem.clone();
        Self::over(host, &pem).await
    }

    async fn over(host: GitHost, pem: &str) -> Self {
        let world = World::over(host, pem).await;
        world.host.keep_large(CONTENT);
        let authority = world.host.address().split_once("://").unwrap().1;
        let lfs = format!("http://127.0.0.1:{}/{authority}/thing.git/info/lfs", world.port);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { world, http, lfs }
    }

    async fn batch(&self, body: &Value) -> (u16, Value) {
        let asked = self.http.post(format!("{}/objects/batch", self.lfs)).body(body.to_string());
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn wants(&self, operation: &str, reference: Option<&str>, content: &[u8]) -> (u16, Value) {
        let mut body = json!({ "operation": operation, "transfers": ["basic"],
            "objects": [{ "oid": oid_of(content), "size": content.len() }] });
        if let Some(name) = reference {
            body["ref"] = json!({ "name": name });
        }
        self.batch(&body).await
    }

    /// The address in an answer.
    fn place(answer: &Value, action: &str) -> String {
        answer["objects"][0]["actions"][action]["href"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }

    async fn get(&self, place: &str) -> Result<Vec<u8>, reqwest::Error> {
        let answer = self.http.get(place).send().await?.error_for_status()?;
        answer.bytes().await.map(|bytes| bytes.to_vec())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_comes_by_a_name_of_the_door_and_nothing_of_its_address_does() {
    let asked = Asked::start().await;
    let (status, answer) = asked.wants("download", None, CONTENT).await;
    assert_eq!(status, 200, "{answer}");
    let text = answer.to_string();
    assert!(!text.contains(LFS_SECRET) && !text.contains("header") && !text.contains("_lfs"), "{text}");
    let place = Asked::place(&answer, "download");
    assert_eq!(asked.get(&place).await.unwrap(), CONTENT);
    // The name is all that there is, and for its own use alone.
    let other = format!("{}0", &place[..place.len() - 1]);
    let guessed = if other == place { format!("{}1", &place[..place.len() - 1]) } else { other };
    assert!(asked.get(&guessed).await.is_err());
    assert_eq!(asked.http.put(&place).body("x").send().await.unwrap().status(), 405);
    // No longer the session's repository.
    asked.world.set(remote("https://127.0.0.1:1/other.git", Some(TOKEN)));
    assert_eq!(asked.http.get(&place).send().await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_object_breaks_off() {
    let asked = Asked::start().await;
    for fault in [LfsFault::Corrupt, LfsFault::Short] {
        asked.world.host.fail_large(fault.clone());
        let (_, answer) = asked.wants("download", None, CONTENT).await;
        let got = asked.get(&Asked::place(&answer, "download")).await;
        assert!(got.is_err(), "{fault:?}: {got:?}");
    }
    asked.world.host.fail_large(LfsFault::None);
    let other = b"not there".as_slice();
    let (status, answer) = asked.wants("download", None, other).await;
    assert_eq!((status, &answer["objects"][0]["error"]["code"]), (200, &json!(404)), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_elsewhere_is_asked_without_the_credential_of_the_repository() {
    let authority = Authority::make();
    let host = GitHost::private(&authority, BASIC).await;
    let store = GitHost::private(&authority, "somebody-else").await;
    store.keep_large(CONTENT);
    let asked = Asked::over(host, &authority.pem).await;
    for fault in [LfsFault::At(store.address().into()), LfsFault::MovedTo(store.address().into())] {
        asked.world.host.fail_large(fault.clone());
        let (_, answer) = asked.wants("download", None, CONTENT).await;
        let got = asked.get(&Asked::place(&answer, "download")).await;
        assert_eq!(got.unwrap(), CONTENT, "{fault:?}");
    }
    assert!(store.requests().iter().all(|one| !one.line.contains(TOKEN)));
    // An address that the rules do not allow, and one without TLS.
    for at in ["https://169.254.169.254", "https://10.0.0.1", "http://127.0.0.1:1"] {
        asked.world.host.fail_large(LfsFault::At(at.into()));
        let (_, answer) = asked.wants("download", None, CONTENT).await;
        let refused = asked.http.get(Asked::place(&answer, "download")).send().await.unwrap();
        assert_eq!(refused.status(), 502, "{at}");
        let told = refused.text().await.unwrap();
        assert!(told.contains("without TLS") || told.contains("[[repositories.allow]]"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_sent_for_the_sessions_branch_alone_and_are_what_they_are_called() {
    let asked = Asked::start().await;
    let new = b"new content".as_slice();
    let own = format!("refs/heads/{OWN}");
    for reference in [None, Some("refs/heads/main"), Some(OWN), Some("refs/heads/patchyard/work-1/x")] {
        let (status, answer) = asked.wants("upload", reference, new).await;
        assert_eq!(status, 403, "{reference:?}");
        assert!(answer["message"].as_str().unwrap().contains(OWN), "{answer}");
    }
    let (status, answer) = asked.wants("upload", Some(&own), new).await;
    assert_eq!(status, 200, "{answer}");
    let place = Asked::place(&answer, "upload");
    for wrong in [b"new CONTENT".as_slice(), b"short", b"longer than it should be"] {
        let answer = asked.http.put(&place).body(wrong.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), 422, "{wrong:?}");
        assert!(!asked.world.host.has_large(&oid_of(wrong)) && !asked.world.host.has_large(&oid_of(new)));
    }
    assert_eq!(asked.http.put(&place).body(new.to_vec()).send().await.unwrap().status(), 200);
    assert!(asked.world.host.has_large(&oid_of(new)));
    let verify = Asked::place(&answer, "verify");
    assert_eq!(asked.http.post(&verify).body(r#"{"oid":"evil"}"#).send().await.unwrap().status(), 200);
    assert_eq!(asked.world.host.verified_large(), [oid_of(new)]);
    let (_, answer) = asked.wants("upload", Some(&own), new).await;
    assert_eq!(answer["objects"][0]["actions"], Value::Null, "it is there: {answer}");
}

/// The client itself, where there is one.
#[tokio::test(flavor = "multi_thread")]
async fn git_lfs_pushes_and_pulls_through_the_door() {
    let world = World::start().await;
    if !world.git_in(&world.work, &["lfs", "version"]).await.status.success() {
        eprintln!("SKIPPED: there is no git-lfs; scripts/setup gets it");
        return;
    }
    world.git(&["lfs", "install", "--local"]).await;
    world.git(&["lfs", "track", "*.bin"]).await;
    let contents: Vec<String> = (0..150).map(|number| format!("object number {number}\n")).collect();
    for (number, content) in contents.iter().enumerate() {
        std::fs::write(world.work.join(format!("{number}.bin")), content).unwrap();
    }
    world.git(&["add", "."]).await;
    world.git(&["commit", "-q", "-m", "large"]).await;
    world.git(&["push", "-q", "origin", OWN]).await;
    assert!(contents.iter().all(|content| world.host.has_large(&oid_of(content.as_bytes()))));
    assert_eq!(world.host.verified_large().len(), contents.len());
    // Another branch: git-lfs says which, and is told no before anything goes.
    std::fs::write(world.work.join("more.bin"), "more").unwrap();
    world.git(&["add", "."]).await;
    world.git(&["commit", "-q", "-m", "more"]).await;
    let told = world.fails(&["push", "origin", "HEAD:refs/heads/main"]).await;
    assert!(told.contains("large files are sent for the branch of the session"), "{told}");
    assert!(!world.host.has_large(&oid_of(b"more")));

    std::fs::remove_dir_all(world.work.join(".git/lfs/objects")).unwrap();
    world.git(&["checkout", "-q", "HEAD~1"]).await;
    std::fs::remove_file(world.work.join("7.bin")).unwrap();
    world.git(&["lfs", "pull"]).await;
    assert_eq!(std::fs::read_to_string(world.work.join("7.bin")).unwrap(), contents[7]);
    world.host.fail_large(LfsFault::Corrupt);
    std::fs::remove_dir_all(world.work.join(".git/lfs/objects")).unwrap();
    let fetched = world.git_in(&world.work, &["lfs", "fetch"]).await;
    assert!(!fetched.status.success(), "{}", said(&fetched));
}

/// Bad input is one line each with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn odd_batches_are_refused_in_words_and_reach_no_host() {
    let asked = Asked::start().await;
    let before = asked.world.host.requests().len();
    for (body, status, words) in [
        (json!("x"), 422, "no batch request"),
        (
            json!({ "operation": "download", "objects": [{ "oid": "../x", "size": 1 }] }),
            422,
            "its SHA-256 and its size",
        ),
        (json!({ "operation": "download", "transfers": ["ssh"], "objects": [] }), 422, "basic"),
        (json!({ "operation": "download", "objects": [], "pad": "x".repeat(300_000) }), 413, "batchSize"),
    ] {
        let (got, answer) = asked.batch(&body).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(got == status && message.contains(words) && !message.contains('\n'), "{got} {answer}");
    }
    let locks = asked.http.post(format!("{}/locks/verify", asked.lfs)).body("{}").send().await.unwrap();
    assert_eq!(locks.status(), 404);
    let elsewhere = asked.lfs.replace("/thing.git", "/%2e%2e/other.git");
    let refused = asked.http.post(format!("{elsewhere}/objects/batch")).body("{}").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(asked.world.host.requests().len(), before, "nothing of it went out");
    asked.world.host.fail_large(LfsFault::Off);
    let (status, answer) = asked.wants("download", None, CONTENT).await;
    assert!(
        status == 404 && answer["message"].as_str().unwrap().contains("keeps no large files"),
        "{answer}"
    );
    assert!(asked.world.outcomes().iter().all(|outcome| *outcome != PushOutcome::Done));
}
