//! Counters for who watches the server, in the text format of Prometheus.
//!
//! ```text
//!   # HELP name words ─ # TYPE name kind ─ name{label="value"} number      one family after the other
//! ```
//!
//! No label names a host, a session or a person: the number of series is that of the words below.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use protocol::egress::EgressCounts;
use protocol::network::DenyReason;

use crate::reply::Reply;
use crate::state::AppState;

/// How long `egress` may take; a scrape does not wait for its restart.
const PATIENCE: Duration = Duration::from_secs(1);

/// All counters.
pub(crate) async fn metrics(State(state): State<AppState>) -> Result<impl IntoResponse, Reply> {
    let mut text = Families::default();
    text.family("patchyard_build_info", "gauge", "The version that runs.");
    text.sample("patchyard_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let (listed, archived) = state.store.count_sessions().await?;
    text.family("patchyard_sessions", "gauge", "Sessions, by whether they are archived.");
    text.sample("patchyard_sessions", &[("archived", "false")], listed);
    text.sample("patchyard_sessions", &[("archived", "true")], archived);
    text.family("patchyard_session_drivers", "gauge", "Sessions whose driver runs.");
    text.sample("patchyard_session_drivers", &[], state.sessions.driven().await as u64);
    let fenced = "patchyard_fenced_writes_total";
    text.family(fenced, "counter", "Writes refused because their session has a newer owner.");
    text.sample(fenced, &[], state.store.fenced_writes());
    let counts = tokio::time::timeout(PATIENCE, state.sessions.egress_counts()).await;
    let counts = counts.ok().and_then(Result::ok);
    text.family(
        "patchyard_egress_up",
        "gauge",
        "Whether egress answers; without it every sandbox is offline.",
    );
    text.sample("patchyard_egress_up", &[], counts.is_some().into());
    if let Some(counts) = counts {
        egress(&mut text, &counts);
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0))
}

fn egress(text: &mut Families, counts: &EgressCounts) {
    text.family("patchyard_egress_sandboxes", "gauge", "Sandboxes whose listeners egress holds.");
    text.sample("patchyard_egress_sandboxes", &[], counts.sandboxes);
    text.family("patchyard_egress_connections_open", "gauge", "Connections of sandboxes that are open.");
    text.sample("patchyard_egress_connections_open", &[], counts.open);
    let decisions = "patchyard_egress_decisions_total";
    text.family(
        decisions,
        "counter",
        "Attempts to reach a host, by decision and reason; since egress was started.",
    );
    text.sample(decisions, &[("decision", "allowed"), ("reason", "")], counts.allowed);
    for reason in DenyReason::ALL {
        let count = counts.denied.get(reason).copied().unwrap_or_default();
        text.sample(decisions, &[("decision", "denied"), ("reason", reason.name())], count);
    }
    let bytes = "patchyard_egress_bytes_total";
    text.family(bytes, "counter", "Bytes of connections that have ended, from (up) and to (down) sandboxes.");
    text.sample(bytes, &[("direction", "up")], counts.bytes_up);
    text.sample(bytes, &[("direction", "down")], counts.bytes_down);
}

#[derive(Default)]
struct Families(String);

impl Families {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Values are words of ours, which need no escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let _ = match labels.as_slice() {
            [] => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
}
