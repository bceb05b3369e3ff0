//! The front, with real gits on both sides.
//!
//! ```text
//!  git (url.insteadOf) ─▶ axum ─▶ GitDoor ── TLS, Basic ──▶ GitHost ─▶ git http-backend
//! ```

use std::io::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use git_proxy::GitGateway;
use policy::address::AddressRules;
use protocol::git::PushOutcome;
use testkit::harness::{GitHost, Repo};
use testkit::internet::Authority;

use crate::door::{BASIC, OWN, Session, TOKEN, World, remote, said, serve};

#[tokio::test(flavor = "multi_thread")]
async fn fetches_and_pushes_pass_in_every_version_and_the_credential_is_put_in_outside() {
    let world = World::start().await;
    for version in ["0", "1", "2"] {
        let protocol = format!("protocol.version={version}");
        let before = world.host.requests().len();
        world.git(&["-c", &protocol, "fetch", "-q", "origin"]).await;
        let tip = world.commit(&format!("version {version}\n")).await;
        let told = world.git(&["-c", &protocol, "push", "origin", OWN]).await;
        assert_eq!(world.upstream(&["rev-parse", OWN]), tip, "{told}");
        let asked = world.host.requests().split_off(before);
        assert!(asked.iter().all(|one| one.headers["authorization"] == format!("Basic {BASIC}")));
        for one in asked.iter().filter(|one| one.line.contains("receive-pack")) {
            assert_eq!(one.headers.get("git-protocol"), None, "{one:?}");
        }
        let fetched = asked.iter().find(|one| one.line.contains("service=git-upload-pack")).unwrap();
        let given = fetched.headers.get("git-protocol").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(given, (version != "0").then(|| format!("version={version}")));
        assert_eq!(world.outcomes(), [PushOutcome::Planned, PushOutcome::Done]);
    }
    // Shallow, partial, and a push from a shallow clone.
    let dir = world.dir.path();
    for more in [&["--depth=1"][..], &["--filter=blob:none"], &["--no-tags", "--single-branch", "-b", OWN]] {
        let args = [&["clone", "-q"], more, &[world.url.as_str(), "other"]].concat();
        let output = world.git_in(dir, &args).await;
        assert!(output.status.success(), "{more:?}: {}", said(&output));
        std::fs::write(dir.join("other/b.txt"), more[0]).unwrap();
        for args in [
            &["checkout", "-q", "-B", OWN][..],
            &["add", "b.txt"],
            &["commit", "-q", "-m", "b"],
            &["push", "-f", "origin", OWN],
        ] {
            let output = world.git_in(&dir.join("other"), args).await;
            assert!(output.status.success(), "{args:?}: {}", said(&output));
        }
        std::fs::remove_dir_all(dir.join("other")).unwrap();
    }
    // The address stays what it is, and the credential is nowhere on this side.
    assert_eq!(world.git(&["config", "remote.origin.url"]).await.trim(), world.url);
    let found = Command::new("grep").args(["-rlaE", &format!("{TOKEN}|{BASIC}")]).arg(dir).output().unwrap();
    assert_eq!(said(&found), "");
    let traced = world.git(&["-c", "http.extraHeader=x: y", "ls-remote", "origin"]).await;
    assert!(traced.contains("refs/heads/main") && !traced.contains(TOKEN));
}

/// Rows G01 to G03 of the escape matrix.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_may_not_push_is_refused_with_the_reason_and_nothing_goes_out() {
    let world = World::start().await;
    let tip = world.commit("work\n").await;
    world.git(&["tag", "v1"]).await;
    world.git(&["notes", "add", "-m", "note"]).await;
    let before = world.upstream(&["for-each-ref"]);
    for (args, reasons) in [
        (&["HEAD:main"][..], &["this is another branch; this session may push to patchyard/work-1 only"][..]),
        (&["v1"], &["tags cannot be pushed"]),
        (&["refs/notes/commits"], &["notes cannot be pushed"]),
        (&["HEAD:refs/for/main"], &["this is no branch"]),
        (&["HEAD:refs/pull/1/head"], &["this is no branch"]),
        (&["HEAD:refs/replace/aa"], &["this is no branch"]),
        (&[":main"], &["branches cannot be deleted"]),
        (
            &[OWN, "HEAD:main"],
            &["not pushed: another ref in this push was refused", "this is another branch"],
        ),
        (&["--atomic", OWN, "HEAD:main"], &["this is another branch"]),
        (&["--follow-tags", "--tags", OWN], &["tags cannot be pushed", "not pushed"]),
        (&["--mirror"], &["tags cannot be pushed", "this is no branch"]),
    ] {
        let told = world.fails(&[&["push", "origin"], args].concat()).await;
        assert!(told.contains("! [remote rejected]"), "{args:?}: {told}");
        assert!(reasons.iter().all(|reason| told.contains(reason)), "{args:?}: {told}");
        assert_eq!(world.outcomes(), [PushOutcome::Refused], "{args:?}");
    }
    let told = world.fails(&["push", "-o", "ci.skip", "origin", OWN]).await;
    assert!(told.contains("does not support push options"), "{told}");
    assert_eq!((world.upstream(&["for-each-ref"]), world.posts()), (before, 0));

    // What is left of it can be pushed, by force too, and says so in a machine's form.
    let told = world.git(&["push", "--porcelain", "--force", "origin", OWN]).await;
    assert!(told.contains("[new branch]"), "{told}");
    assert_eq!(world.upstream(&["rev-parse", OWN]), tip);
    assert_eq!(world.outcomes(), [PushOutcome::Planned, PushOutcome::Done]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_push_passes_and_a_large_refused_one_ends_with_the_reason_whatever_its_framing() {
    let world = World::start().await;
    // Bytes that no packing makes smaller.
    let mut state = 1u64;
    let noise: Vec<u8> = (0..60_000_000 / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    std::fs::write(world.work.join("noise"), &noise).unwrap();
    world.git(&["add", "noise"]).await;
    world.git(&["commit", "-q", "-m", "noise"]).await;
    for buffer in ["1048576", "104857600"] {
        let sized = format!("http.postBuffer={buffer}");
        let told = world.fails(&["-c", &sized, "push", "origin", "HEAD:main"]).await;
        let wanted = "! [remote rejected] HEAD -> main (this is another branch; this session may push to patchyard/work-1 only)";
        assert!(told.contains(wanted) && !told.contains("RPC failed"), "{buffer}: {told}");
        assert_eq!(world.posts(), 0);
        assert_eq!(world.outcomes().last(), Some(&PushOutcome::Refused));
    }
    let small = ["reset", "-q", "--hard", "HEAD~1"];
    world.git(&small).await;
    for (buffer, name) in [("1048576", "transfer-encoding"), ("104857600", "content-length")] {
        let sized = format!("http.postBuffer={buffer}");
        let other: Vec<u8> = noise[..3_000_000].iter().map(|byte| byte ^ buffer.len() as u8).collect();
        std::fs::write(world.work.join("noise"), other).unwrap();
        world.git(&["add", "noise"]).await;
        world.git(&["commit", "-q", "-m", "other noise"]).await;
        world.git(&["-c", &sized, "push", "origin", OWN]).await;
        assert_eq!(world.upstream(&["rev-parse", OWN]), world.git(&["rev-parse", "HEAD"]).await.trim());
        let sent = world.host.requests().pop().unwrap();
        let both =
            (sent.headers.contains_key("transfer-encoding"), sent.headers.contains_key("content-length"));
        assert_eq!(both, (name == "transfer-encoding", name == "content-length"), "{sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_says_reaches_the_client_and_the_record() {
    let world = World::start().await;
    let hook = world.host.bare("thing").join("hooks/update");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\necho 'see https://host.test/rules, {TOKEN}' >&2\nexit 1\n"))
        .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.commit("work\n").await;
    let told = world.fails(&["push", "origin", OWN]).await;
    assert!(told.contains("! [remote rejected]") && told.contains("(hook declined)"), "{told}");
    assert!(told.contains("remote: see https://host.test/rules"), "{told}");
    let push = world.pushes().pop().unwrap();
    assert_eq!(push.outcome, PushOutcome::Rejected);
    assert_eq!(push.refs[0].error.as_deref(), Some("hook declined"));
    assert!(!told.contains(TOKEN), "{told}");
    let words = push.words.unwrap();
    assert!(words.starts_with("see https://host.test/rules, ***") && !words.contains(TOKEN), "{words}");
}

/// Bad input: the ways to a host that do not lead there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_way_is_said_in_a_line() {
    let world = World::start().await;
    world.commit("work\n").await;
    let line = async |words: &str| {
        for args in [&["fetch", "origin"][..], &["push", "origin", OWN]] {
            let told = world.fails(args).await;
            let mut lines = told.lines().filter(|line| line.contains("remote error: "));
            assert!(lines.next().is_some_and(|line| line.contains(words)), "{args:?}, {words}: {told}");
            assert!(!told.contains(TOKEN), "{told}");
        }
    };
    world.host.want("b3RoZXI6dG9rZW4=");
    line("did not accept the stored credential: it is wrong, expired or revoked; set another one with").await;
    world.set(remote(&world.url, None));
    line("and this server has none for it; set one with `patchyard web-setup --host 127.0.0.1").await;
    world.host.want(BASIC);
    world.set(remote(&world.url, Some(TOKEN)));
    for (status, words) in
        [(403, "needs permission to"), (404, "was not found; check the address"), (503, "answered 503")]
    {
        world.host.instead("/info/refs", status, "");
        line(words).await;
    }
    world.host.instead("/info/refs", 302, "https://elsewhere.test/thing.git/info/refs");
    line("has moved to another address").await;
    world.host.as_usual();
    for (place, words) in [
        ("https://192.0.2.1/thing.git", "is in a reserved block"),
        ("https://10.1.2.3/thing.git", "is in a private network"),
        ("https://169.254.169.254/x", "metadata"),
    ] {
        world.set(remote(place, Some(TOKEN)));
        let authority = place.split('/').nth(2).unwrap();
        let through = format!("http://127.0.0.1:{}/{authority}{}", world.port, &place[8 + authority.len()..]);
        let told = world.fails(&["ls-remote", &through]).await;
        assert!(told.contains(words), "{told}");
    }
    world.set(remote(&world.url, Some(TOKEN)));
    // Allowed to look, and not to write.
    world.host.instead("/git-receive-pack", 403, "");
    let told = world.fails(&["push", "origin", OWN]).await;
    assert!(
        told.contains("! [remote rejected]") && told.contains("permission to write to this repository"),
        "{told}"
    );
    assert_eq!(world.outcomes().last(), Some(&PushOutcome::Failed));
    *world.session.remote.lock().unwrap() = Err("this session has no remote repository".into());
    line("this session has no remote repository").await;

    // Authorities that nobody named.
    let host = GitHost::private(&Authority::make(), BASIC).await;
    let url = host.publish(&Repo::with("thing", &[("a", "b")]));
    let stranger = Authority::make();
    let rules = AddressRules {
        exceptions: vec![serde_json::from_str(r#"{"host":"127.0.0.1","cidr":"127.0.0.0/8"}"#).unwrap()],
    };
    let session =
        Arc::new(Session { remote: Mutex::new(Ok(remote(&url, Some(TOKEN)))), pushes: Mutex::default() });
    let port = serve(GitGateway::new(rules, &stranger.pem).unwrap().door(session.clone())).await;
    let authority = host.address().split_once("://").unwrap().1;
    let told = world.fails(&["ls-remote", &format!("http://127.0.0.1:{port}/{authority}/thing.git")]).await;
    assert!(told.contains("the certificate of 127.0.0.1") && told.contains("is not valid"), "{told}");
    assert_eq!(host.requests().len(), 0, "the credential went nowhere");
    // Nobody there.
    drop(host);
    *session.remote.lock().unwrap() = Ok(remote("https://127.0.0.1:1/thing.git", Some(TOKEN)));
    let told = world.fails(&["ls-remote", &format!("http://127.0.0.1:{port}/127.0.0.1:1/thing.git")]).await;
    assert!(told.contains("127.0.0.1:1 cannot be reached"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_renamed_is_followed_on_its_host() {
    let world = World::start().await;
    std::fs::rename(world.host.bare("thing"), world.host.bare("renamed")).unwrap();
    let address = world.host.address().to_owned();
    world.host.instead(
        "/thing.git/info/refs?service=git-upload-pack",
        301,
        &format!("{address}/renamed.git/info/refs?service=git-upload-pack"),
    );
    world.git(&["fetch", "-q", "origin"]).await;
    world.host.instead(
        "/thing.git/info/refs?service=git-receive-pack",
        307,
        "/renamed.git/info/refs?service=git-receive-pack",
    );
    world.commit("work\n").await;
    world.git(&["push", "origin", OWN]).await;
    assert!(world.host.requests().iter().any(|one| one.line.ends_with("/renamed.git/git-receive-pack")));
}

/// Rows G04, G05 and G08 of the escape matrix, as no git would ask.
#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_reach_no_host() {
    let world = World::start().await;
    let authority = world.host.address().split_once("://").unwrap().1.to_owned();
    let door = format!("http://127.0.0.1:{}", world.port);
    let http =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let before = world.host.requests().len();
    for path in
        ["HEAD", "objects/info/packs", "info/refs", "info/lfs/objects", "git-upload-archive", "settings"]
    {
        let answer = http.get(format!("{door}/{authority}/thing.git/{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    // Another repository of the host: by itself, under the rules of its network; and no push there.
    let refs =
        |repository: &str, service: &str| format!("{door}/{repository}/info/refs?service=git-{service}-pack");
    let answer = http.get(refs(&format!("{authority}/other.git"), "upload")).send().await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap();
    assert_eq!(
        (answer.status().as_u16(), to),
        (307, format!("https://{authority}/other.git/info/refs?service=git-upload-pack").as_str())
    );
    for (repository, service) in [
        (format!("{authority}/other.git"), "receive"),
        ("evil.test/thing.git".into(), "upload"),
        (format!("{authority}/%2e%2e/thing.git"), "receive"),
    ] {
        let answer = http.get(refs(&repository, service)).send().await.unwrap();
        let text = answer.text().await.unwrap();
        assert!(text.contains("ERR this session may reach"), "{repository}: {text}");
    }
    let own = format!("{door}/{authority}/thing.git/git-receive-pack");
    let push = async |body: Vec<u8>, encoding: &str| {
        let request =
            http.post(&own).body(body).header("content-type", "application/x-git-receive-pack-request");
        let answer = request.header("content-encoding", encoding).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let zero = "0".repeat(40);
    let packet = |line: &str| format!("{:04x}{line}", line.len() + 4);
    let to =
        |name: &str, capabilities: &str| packet(&format!("{zero} {} {name}{capabilities}", "a".repeat(40)));
    let main = to("refs/heads/main", "\0 report-status");
    let own_first = to(&format!("refs/heads/{OWN}"), "\0 report-status");
    for (body, words) in [
        (format!("{main}0000PACK"), "ng refs/heads/main this is another branch"),
        (
            format!("{own_first}{}0000PACK", to("refs/heads/main", "\0 report-status")),
            "unpack the push is not what git sends",
        ),
        (format!("{own_first}0001{main}0000PACK"), "a packet of another protocol"),
        (format!("{}{}0000PACK", packet("push-cert\0 report-status"), main), "certificate"),
        ("0003".into(), "a packet has no length"),
        ("".into(), "ends in the list of its refs"),
        (own_first.clone(), "ends in the list of its refs"),
    ] {
        for squeeze in [false, true] {
            let mut bytes = body.clone().into_bytes();
            if squeeze {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(&bytes).unwrap();
                bytes = encoder.finish().unwrap();
            }
            let (status, text) = push(bytes, if squeeze { "gzip" } else { "identity" }).await;
            assert!(status == 200 && text.contains(words), "{body:?}: {status} {text}");
        }
    }
    assert!(push(b"0000".to_vec(), "identity").await.0 == 200, "git's question whether it may");
    assert!(push(b"0000".to_vec(), "br").await.1.contains("not known here"));
    assert_eq!(world.host.requests().len(), before, "nothing of it went out");
    // Too many in a short time wait.
    let statuses = futures::future::join_all((0..40).map(|_| push(b"0003".to_vec(), "identity"))).await;
    assert!(statuses.iter().any(|(status, _)| *status == 429), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_midway_is_told_of() {
    let world = World::start().await;
    world.commit("work\n").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                let refs = head[..length].starts_with(b"GET");
                let body = format!("001f# service=git-receive-pack\n0000{}0000", {
                    let line = format!("{} capabilities^{{}}\0report-status\n", "0".repeat(40));
                    format!("{:04x}{line}", line.len() + 4)
                });
                let whole = if refs { body.len() } else { 1000 };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {whole}\r\n\r\n{}",
                    if refs { &body } else { "0013unpack" }
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    world.set(remote(&format!("http://{place}/thing.git"), None));
    let told =
        world.fails(&["push", &format!("http://127.0.0.1:{}/{place}/thing.git", world.port), OWN]).await;
    assert!(told.contains("error: "), "{told}");
    let push = world.pushes().pop().unwrap();
    assert_eq!(push.outcome, PushOutcome::Failed, "{push:?}");
}
