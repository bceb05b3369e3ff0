//! Real package managers at level trusted, with the real registries: row C4 of the escape matrix.
//!
//! ```text
//!   slim ─ apt ─▶ pip · npm · cargo ─ pip ─▶ uv      ─ npm ─▶ pnpm · yarn · bun
//!   each installs something small, with the proxy's variables and, as `bare`, without any
//! ```
//!
//! Run by `make test-packages`: it fetches some 350 MB.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use policy::address::AddressRules;
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use serde_json::json;
use testkit::harness::{Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{completed, edit_default_environment, results, serve};

/// The registries, by their labels in reverse as the included list has them.
const REGISTRIES: [&str; 8] = [
    "org.debian.deb",
    "org.debian.security",
    "org.pypi",
    "org.pythonhosted.files",
    "org.npmjs.registry",
    "com.yarnpkg.registry",
    "io.crates.index",
    "io.crates.static",
];

/// What is tried: a word for it, and commands that end with 0 when it works.
const TRIED: [(&str, &str); 15] = [
    (
        "apt",
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --no-install-recommends \
         python3-pip python3-venv nodejs npm cargo-web rustc-web",
    ),
    (
        "apt, bare",
        "env -i PATH=$PATH DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends tree && tree --version",
    ),
    (
        "pip",
        "python3 -m venv /tmp/v && /tmp/v/bin/pip install -q six uv && /tmp/v/bin/python -c 'import six'",
    ),
    (
        "pip, bare",
        "python3 -m venv /tmp/w && env -i PIP_CERT=$PIP_CERT /tmp/w/bin/pip install -q idna && /tmp/w/bin/python -c 'import idna'",
    ),
    (
        "uv",
        "cd /tmp && /tmp/v/bin/uv venv -q u && /tmp/v/bin/uv pip install -q --python u/bin/python attrs && u/bin/python -c 'import attr'",
    ),
    (
        "uv, bare",
        "cd /tmp && env -i SSL_CERT_FILE=$SSL_CERT_FILE HOME=/tmp /tmp/v/bin/uv pip install -q --python u/bin/python toolz && u/bin/python -c 'import toolz'",
    ),
    (
        "npm",
        "mkdir -p /tmp/n && cd /tmp/n && npm init -y >/dev/null && npm install --silent left-pad && node -e 'require(\"left-pad\")'",
    ),
    (
        "npm, bare",
        "cd /tmp/n && env -i PATH=$PATH HOME=/tmp NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS npm install --silent ms && node -e 'require(\"ms\")'",
    ),
    ("more by npm", "npm install --silent --global pnpm@8 yarn@1 bun"),
    (
        "pnpm",
        "mkdir -p /tmp/p && cd /tmp/p && echo '{}' >package.json && pnpm add --silent ms && node -e 'require(\"ms\")'",
    ),
    (
        "yarn",
        "mkdir -p /tmp/y && cd /tmp/y && echo '{}' >package.json && yarn add --silent ms && node -e 'require(\"ms\")'",
    ),
    (
        "bun",
        "mkdir -p /tmp/b && cd /tmp/b && echo '{}' >package.json && bun add ms && node -e 'require(\"ms\")'",
    ),
    (
        "bun, bare",
        "cd /tmp/b && env -i PATH=$PATH HOME=/tmp NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS bun add left-pad && node -e 'require(\"left-pad\")'",
    ),
    ("cargo", "cd /tmp && cargo new -q c && cd c && cargo add -q itoa@1 && cargo fetch -q && cargo build -q"),
    (
        "cargo, bare",
        "cd /tmp/c && env -i PATH=$PATH HOME=/tmp/h CARGO_HTTP_CAINFO=$CARGO_HTTP_CAINFO cargo fetch -q",
    ),
];

/// Where every program of this machine finds the authorities that it trusts.
pub(crate) const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn host(reversed: &str) -> String {
    reversed.rsplit('.').collect::<Vec<_>>().join(".")
}

/// Exceptions for registries that this machine reaches at addresses that are not public.
pub(crate) fn private() -> String {
    let mut blocks = Vec::new();
    for host in REGISTRIES.map(host) {
        let found = (host.as_str(), 443).to_socket_addrs().into_iter().flatten();
        let odd = found
            .map(|address| address.ip())
            .filter(|address| AddressRules::default().check(&host, *address).is_err());
        for address in odd {
            let bits = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
            blocks.push(format!("{{ host = \"{host}\", cidr = \"{address}/{bits}\" }}"));
        }
    }
    format!("[network]\nprivate = [{}]\n", blocks.join(", "))
}

/// Puts the default environment at level trusted, and this machine's authorities, `authorities.pem` of the
/// repository, where every program finds them.
pub(crate) async fn trusted(server: &TestServer) {
    let known_by = ["SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO"];
    let changes = json!({
        "network": { "level": "trusted" },
        "setup_script": format!("cp authorities.pem {AUTHORITIES}"),
        "variables": known_by.map(|name| format!("{name}={AUTHORITIES}\n")).concat(),
    });
    edit_default_environment(server, changes).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches some 200 MB; run by `make test-packages`"]
async fn c4_package_managers_work_at_level_trusted() {
    let call = |turn: Turn, command: &str| {
        turn.and_tool("Bash", json!({ "command": format!("{command} 2>&1 | tail -c 2000; exit ${{PIPESTATUS[0]}}"), "timeout": 600_000 }))
    };
    let turn = TRIED.iter().fold(Turn::empty(), |turn, (_, command)| call(turn, command));
    let model = ScriptedModel::start(Script::turns([turn, Turn::text("seen")])).await;
    let server = serve().model(&model).config(&private()).start().await;
    trusted(&server).await;

    let pem = std::fs::read_to_string(AUTHORITIES).unwrap();
    let repo = Repo::with("packages", &[("authorities.pem", pem.as_str())]);
    let session = server.create(&repo, "install things").await;
    let events = turn_ended(&server, session).await;
    completed(&events);
    let mut failed = Vec::new();
    for ((name, _), result) in TRIED.iter().zip(results(&events)) {
        println!("{} {name}", if result.is_error { "FAILED" } else { "works " });
        if result.is_error {
            failed.push(format!("{name}: {}", result.content));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Makes a program of Java's that fetches an address, and says the status and whether by the proxy.
const GET: &str = r#"mkdir -p /tmp/j && cat >/tmp/j/Get.java <<'END'
import java.net.*;
public class Get {
    public static void main(String[] words) throws Exception {
        var connection = (HttpURLConnection) new URL(words[0]).openConnection();
        System.out.println(connection.getResponseCode() + " " + connection.usingProxy());
    }
}
END
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jdk-headless >/dev/null && javac -d /tmp/j /tmp/j/Get.java"#;

/// Java, which knows nothing of the image's authorities nor of the usual variables, reaches a host whose
/// connections are opened: by the proxy and captured.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches some 150 MB; run by `make test-packages`"]
async fn java_finds_the_proxy_and_trusts_the_sessions_authority() {
    let address = format!("https://{}/simple/six/", host("org.pypi"));
    let get = format!("java -cp /tmp/j Get {address}");
    let only_trust =
        "env -i PATH=$PATH JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/etc/ssl/patchyard/authorities.jks";
    let commands = [
        GET.to_owned(),
        get.clone(),
        format!("{only_trust} {get}"),
        // Without what we give it, Java believes nobody here: so the two above were opened, and trusted ours.
        format!("env -i PATH=$PATH {get}"),
    ];
    let turn = commands.iter().fold(Turn::empty(), |turn, command| {
        let command = format!("({command}\n) 2>&1 | tail -c 3000");
        turn.and_tool("Bash", json!({ "command": command, "timeout": 600_000 }))
    });
    let model = ScriptedModel::start(Script::turns([turn, Turn::text("seen")])).await;
    let server = serve().model(&model).config(&private()).start().await;
    let strict = json!({ "network": { "level": "trusted" }, "rendering": "strict" });
    edit_default_environment(&server, strict).await.is(200);
    let session = server.create(&Repo::with("java", &[("a", "a")]), "fetch by Java").await;
    let events = turn_ended(&server, session).await;
    completed(&events);
    let said: Vec<_> = results(&events).iter().map(|result| result.content.clone()).collect();
    assert!(said[1].contains("200 true"), "{}\n{}", said[0], said[1]);
    assert!(said[2].contains("200 false"), "{}", said[2]);
    assert!(said[3].contains("PKIX path building failed"), "{}", said[3]);
}

/// The events of a session once its turn is over; some take longer than a test usually waits.
async fn turn_ended(server: &TestServer, session: SessionId) -> Vec<Event> {
    let until = Instant::now() + Duration::from_secs(1500);
    loop {
        let events = server.events(session).await;
        if events.iter().any(|event| matches!(event.body, EventBody::TurnEnded(_))) {
            return events;
        }
        assert!(Instant::now() < until, "it takes too long");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
