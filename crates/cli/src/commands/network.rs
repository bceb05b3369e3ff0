//! `patchyard sessions network`, `allow` and `deny`: what a session's sandboxes tried to reach, and what
//! a person decides about it.

use client::Client;
use protocol::egress::{AuditEvent, AuditRecord, Decided};
use protocol::ids::SessionId;
use protocol::network::{DecideNetwork, NetworkScope};

use crate::error::Failure;
use crate::output::{json, line, note, plain};

/// The port of a host that is named without one.
const USUAL_PORT: u16 = 443;

/// Prints the records, one a line.
pub(super) async fn list(client: &Client, session: SessionId, as_json: bool) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let page = client.network(session, after).await?;
        for record in &page.records {
            line(&if as_json { serde_json::to_string(record).unwrap_or_default() } else { shown(record) });
        }
        match page.records.last() {
            Some(last) if last.seq < page.last_seq => after = last.seq,
            _ => {
                if let Some(seq) = page.broken_after {
                    note(&format!(
                        "! the chain of records is broken after number {seq}: it was changed, or cut"
                    ));
                }
                return Ok(());
            }
        }
    }
}

/// Decides about a host, and prints what holds now.
pub(super) async fn decide(
    client: &Client,
    session: SessionId,
    (target, decision): (&str, NetworkScope),
    as_json: bool,
) -> Result<(), Failure> {
    let (host, port) = place(target).ok_or_else(|| {
        Failure::Usage(format!("`{}` is neither HOST nor HOST:PORT; IPv6 goes in brackets", plain(target)))
    })?;
    let decide = DecideNetwork { host, port, decision };
    let now = client.decide_network(session, &decide).await?;
    if as_json {
        json(&now);
    } else {
        line(&plain(&now.message));
    }
    Ok(())
}

/// Host and port; whether it is a host, the server says.
fn place(target: &str) -> Option<(String, u16)> {
    match target.rsplit_once(':') {
        Some((host, port)) if !target.ends_with(']') => {
            let whole = !host.is_empty() && (host.ends_with(']') || !host.contains(':'));
            let port = port.parse().ok().filter(|port| *port > 0);
            port.filter(|_| whole).map(|port| (host.to_owned(), port))
        }
        _ => (!target.is_empty()).then(|| (target.to_owned(), USUAL_PORT)),
    }
}

fn shown(record: &AuditRecord) -> String {
    let what = match &record.what {
        AuditEvent::Decided(decided) => decision(decided),
        AuditEvent::Closed { dialed, bytes_up, bytes_down, duration_ms, reason } => {
            let to = dialed.map_or_else(|| "nowhere".to_owned(), |address| address.to_string());
            let why = reason.map(|reason| format!(", {reason}")).unwrap_or_default();
            format!("closed   {to}, {bytes_up} bytes up, {bytes_down} down, {duration_ms} ms{why}")
        }
        AuditEvent::Repeated { host, reason, count } => {
            format!("refused  {} {count} times more, {reason}", plain(host))
        }
    };
    format!("{:>6}  {}  #{:<5} {what}", record.seq, record.at, record.connection)
}

fn decision(decided: &Decided) -> String {
    let Decided { host, port, rule, reason, .. } = decided;
    let word = if decided.is_allowed() { "allowed" } else { "refused" };
    let place = if *port == 0 { plain(host) } else { format!("{}:{port}", plain(host)) };
    let request = match (&decided.method, &decided.path) {
        (Some(method), Some(path)) => format!(" {} {}", plain(method), plain(path)),
        _ => String::new(),
    };
    let by = rule.as_ref().map(|rule| format!(", {}", plain(rule))).unwrap_or_default();
    let why = reason.map(|reason| format!(", {reason}")).unwrap_or_default();
    let lenient = if decided.lenient { ", strangers can write there" } else { "" };
    format!("{word}  {place}{request}{why}{by}{lenient}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_perhaps_a_port() {
        for (target, wanted) in [
            ("evil.test", Some(("evil.test", 443))),
            ("evil.test:8443", Some(("evil.test", 8443))),
            ("[2001:db8::1]", Some(("[2001:db8::1]", 443))),
            ("[2001:db8::1]:22", Some(("[2001:db8::1]", 22))),
            ("2001:db8::1", None),
            ("evil.test:", None),
            ("evil.test:0", None),
            ("evil.test:65536", None),
            (":443", None),
            ("", None),
        ] {
            let wanted = wanted.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(place(target), wanted, "{target}");
        }
    }
}
