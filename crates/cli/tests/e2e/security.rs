//! Who may ask, from where, and how often.

use protocol::api::PromptAccepted;
use protocol::event::EventBody;
use protocol::view::SessionView;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn};

use crate::world::{bash, completed, ends, results, serve, small_repo};

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types ui svelte-trusted-html";

async fn answering(turns: impl IntoIterator<Item = Turn>) -> (ScriptedModel, TestServer) {
    let model = ScriptedModel::start(Script::by_depth(turns)).await;
    let server = serve().model(&model).start().await;
    (model, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_secret() {
    let (_model, server) = answering([Turn::text("done")]).await;
    let session = server.create(&small_repo("closed"), "task").await;
    server.until_rest(session, 1).await;
    let paths = [
        (Method::GET, "/api/v1/sessions".to_owned()),
        (Method::POST, "/api/v1/sessions".into()),
        (Method::GET, format!("/api/v1/sessions/{session}")),
        (Method::DELETE, format!("/api/v1/sessions/{session}")),
        (Method::GET, format!("/api/v1/sessions/{session}/events")),
        (Method::GET, format!("/api/v1/sessions/{session}/diff")),
        (Method::POST, format!("/api/v1/sessions/{session}/prompts")),
        (Method::POST, format!("/api/v1/sessions/{session}/stop")),
        (Method::POST, "/api/v1/uploads".into()),
        (Method::GET, "/api/v1/stream".into()),
        (Method::GET, "/api/v1/server".into()),
        (Method::GET, "/api/v1/auth/me".into()),
        (Method::GET, format!("/git/{session}.git/info/refs?service=git-upload-pack")),
    ];
    for (method, path) in paths {
        let none = Answer::to(server.anonymous(method.clone(), &path)).await;
        none.is_problem(401, "not_signed_in");
        for secret in ["pyt_wrong", "", "pyb_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let wrong = server.anonymous(method.clone(), &path).bearer_auth(secret);
            Answer::to(wrong).await.is_problem(401, "not_signed_in");
        }
        // A one-time code is no token.
        let code = server.login_url.split_once('#').unwrap().1;
        let wrong = server.anonymous(method, &path).bearer_auth(code);
        Answer::to(wrong).await.is_problem(401, "not_signed_in");
    }
    for open in ["/healthz", "/readyz", "/api/v1/openapi.json", "/"] {
        Answer::to(server.anonymous(Method::GET, open)).await.is(200);
    }
    let me: Value = server.get("/auth/me").await.is(200).json();
    assert_eq!(me["kind"], "token");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(server.data().join("token")).unwrap());
    assert_eq!(mode & 0o777, 0o600, "the token file is the owner's only");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_and_other_sites_are_refused() {
    let (_model, server) = answering([Turn::text("done")]).await;
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    for host in ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1.evil.example", "", "127.0.0.1:1"]
    {
        let request = server.request(Method::GET, "/sessions").header("host", host);
        Answer::to(request).await.is_problem(421, "wrong_host");
    }
    let local = server.request(Method::GET, "/sessions").header("host", format!("localhost:{port}"));
    Answer::to(local).await.is(200);

    let login = sign_in(&server).await;
    let cookie = login.header("set-cookie").split(';').next().unwrap().to_owned();
    let write = || server.anonymous(Method::POST, "/api/v1/auth/logout").header("cookie", &cookie);
    for origin in
        ["https://evil.example", "null", "http://127.0.0.1:1", &format!("http://evil.example:{port}")]
    {
        Answer::to(write().header("origin", origin)).await.is_problem(403, "wrong_origin");
    }
    let fetched = write().header("origin", &server.address).header("sec-fetch-site", "cross-site");
    Answer::to(fetched).await.is_problem(403, "wrong_origin");
    Answer::to(write()).await.is_problem(403, "wrong_origin");
    Answer::to(write().header("origin", &server.address)).await.is(204);
    // Signed out for good.
    let me = server.anonymous(Method::GET, "/api/v1/auth/me").header("cookie", &cookie);
    Answer::to(me).await.is_problem(401, "not_signed_in");
}

async fn sign_in(server: &TestServer) -> Answer {
    let code = server.login_url.split_once('#').unwrap().1;
    let request = server.anonymous(Method::POST, "/api/v1/auth/login").header("origin", &server.address);
    Answer::to(request.json(&json!({ "code": code }))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_code_is_good_once_and_becomes_a_cookie_that_scripts_cannot_read() {
    let (_model, server) = answering([Turn::text("done")]).await;
    let login = sign_in(&server).await.is(204);
    let cookie = login.header("set-cookie").to_owned();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000");
    assert!(pair.starts_with("patchyard_session=pyb_"), "{pair}");
    let me = server.anonymous(Method::GET, "/api/v1/auth/me").header("cookie", pair);
    assert_eq!(Answer::to(me).await.is(200).json::<Value>()["kind"], "browser");
    sign_in(&server).await.is_problem(401, "bad_code");
    let code = server.login_url.split_once('#').unwrap().1;
    let token = server.anonymous(Method::POST, "/api/v1/auth/token").json(&json!({ "code": code }));
    Answer::to(token).await.is_problem(401, "bad_code");
    assert!(!server.log().contains(code), "the code is not logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_headers_that_keep_the_page_to_itself() {
    let (_model, server) = answering([Turn::text("done")]).await;
    for path in ["/", "/s/ses_01JD3Q4F7Z8XK2M5N6P7R8S9TV", "/api/v1/sessions", "/nothing.js"] {
        let answer = Answer::to(server.anonymous(Method::GET, path)).await;
        for (name, value) in [
            ("content-security-policy", CSP),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{name} of {path}");
        }
        assert!(answer.headers.get("access-control-allow-origin").is_none(), "{path}");
    }
    for path in ["/../../etc/passwd", "/assets/..%2f..%2fetc%2fpasswd", "/%2e%2e/master.key"] {
        let answer = Answer::to(server.anonymous(Method::GET, path)).await;
        assert!(!answer.text().contains("root:"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_repository_is_read_only_and_hides_private_refs() {
    let (_model, server) = answering([bash("echo x > x.txt"), Turn::text("done")]).await;
    let repo = small_repo("readonly");
    let session = server.create(&repo, "task").await;
    server.until_rest(session, 1).await;
    let remote = format!(
        "{}/git/{session}.git",
        server.address.replace("http://", &format!("http://me:{}@", server.token))
    );
    let pushed = repo.output(&["push", &remote, "HEAD:refs/heads/main"]);
    assert!(!pushed.status.success());
    let words = String::from_utf8_lossy(&pushed.stderr).into_owned();
    assert!(words.contains("403"), "{words}");
    let direct = server.anonymous(Method::POST, &format!("/git/{session}.git/git-receive-pack"));
    let direct = Answer::to(direct.bearer_auth(&server.token)).await;
    assert!(matches!(direct.status, 403..=405), "{}", direct.status);
    let service = format!("/git/{session}.git/info/refs?service=git-receive-pack");
    Answer::to(server.anonymous(Method::GET, &service).bearer_auth(&server.token))
        .await
        .is_problem(403, "read_only");

    let refs = repo.git(&["ls-remote", &remote]);
    assert!(refs.contains("refs/heads/main") && refs.contains("refs/heads/patchyard/"), "{refs}");
    assert!(!refs.contains("refs/patchyard"), "{refs}");
    for name in ["../token", "%2e%2e%2ftoken", "ses_01JD3Q4F7Z8XK2M5N6P7R8S9TV.git"] {
        let request =
            server.anonymous(Method::GET, &format!("/git/{name}/info/refs?service=git-upload-pack"));
        let answer = Answer::to(request.bearer_auth(&server.token)).await;
        assert!(
            answer.status == 404 || answer.text().contains("<!doctype html>"),
            "{name}: {}",
            answer.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_output_is_kept_and_belongs_to_its_session_alone() {
    let (_model, server) = answering([bash("seq 1 40000"), Turn::text("done")]).await;
    let repo = small_repo("outputs");
    let sessions = [server.create(&repo, "one").await, server.create(&repo, "two").await];
    let mut blobs = Vec::new();
    for session in sessions {
        let events = server.until_rest(session, 1).await;
        completed(&events);
        let result = results(&events)[0];
        assert!(result.content.len() < 40_000, "the model reads a part");
        blobs.push(result.full_output.clone().unwrap());
    }
    let whole = server.get(&format!("/sessions/{}/blobs/{}", sessions[0], blobs[0].blob)).await.is(200);
    assert_eq!(whole.text().lines().count(), 40_000);
    assert_eq!(whole.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(whole.header("content-security-policy"), "sandbox; default-src 'none'");
    for name in ["../../master.key", "..%2f..%2fmaster.key", &"0".repeat(64), "x"] {
        let answer = server.get(&format!("/sessions/{}/blobs/{name}", sessions[0])).await;
        assert!(answer.status == 404 || answer.status == 400, "{name}: {}", answer.status);
    }
    // The same bytes in another session are another session's.
    server.request(Method::DELETE, &format!("/sessions/{}", sessions[0])).send().await.unwrap();
    server
        .get(&format!("/sessions/{}/blobs/{}", sessions[0], blobs[0].blob))
        .await
        .is_problem(404, "session_not_found");
    server.get(&format!("/sessions/{}/blobs/{}", sessions[1], blobs[1].blob)).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_another_session_is_not_found() {
    let script = Script::default()
        .many_conversations()
        .when(testkit::model::When::last_user("^one"), [bash("seq 1 40000"), Turn::text("done")])
        .when(testkit::model::When::last_user("^two"), [Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("foreign");
    let (one, two) = (server.create(&repo, "one").await, server.create(&repo, "two").await);
    let events = server.until_rest(one, 1).await;
    let blob = results(&events)[0].full_output.clone().unwrap().blob;
    server.until_rest(two, 1).await;
    server.get(&format!("/sessions/{one}/blobs/{blob}")).await.is(200);
    server.get(&format!("/sessions/{two}/blobs/{blob}")).await.is_problem(404, "blob_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_makes_one_session_and_one_prompt() {
    let gate = Gate::closed();
    let (model, server) = answering([Turn::text("done").hold(0, &gate), Turn::text("two")]).await;
    let repo = small_repo("once");
    let body = server.new_session(&repo, "task").await;
    let create = async |body: &Value, key: &str| {
        let request = server.request(Method::POST, "/sessions").header("idempotency-key", key);
        Answer::to(request.json(body)).await
    };
    let (one, two) = tokio::join!(create(&body, "key-1"), create(&body, "key-1"));
    let (one, two): (SessionView, SessionView) = (one.is(201).json(), two.is(201).json());
    assert_eq!(one.id, two.id);
    let later: SessionView = create(&body, "key-1").await.is(201).json();
    assert_eq!(later.id, one.id, "also when the upload is spent");
    let mut other = body.clone();
    other["prompt"] = "another task".into();
    create(&other, "key-1").await.is_problem(409, "idempotency_key_reused");
    create(&body, "key-2").await.is_problem(400, "upload_not_found");

    let prompt = async |text: &str, key: &str| {
        let request = server.request(Method::POST, &format!("/sessions/{}/prompts", one.id));
        Answer::to(request.header("idempotency-key", key).json(&json!({ "text": text }))).await
    };
    let first: PromptAccepted = prompt("more", "key-1").await.is(202).json();
    let again: PromptAccepted = prompt("more", "key-1").await.is(202).json();
    assert_eq!(first, again);
    prompt("less", "key-1").await.is_problem(409, "idempotency_key_reused");
    gate.open();
    let events = server.until_rest(one.id, 2).await;
    let queued = events.iter().filter(|event| matches!(event.body, EventBody::PromptQueued { .. })).count();
    assert_eq!((queued, ends(&events).len()), (2, 2));
    let listed: Value = server.get("/sessions").await.json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        std::fs::read_dir(server.data().join("repos")).unwrap().count(),
        1,
        "no repository is left over"
    );
    model.assert_clean();
}
