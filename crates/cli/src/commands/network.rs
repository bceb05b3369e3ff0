//! `patchyard sessions network`: what a session's sandboxes tried to reach.

use client::Client;
use protocol::egress::{AuditEvent, AuditRecord, Decided};
use protocol::ids::SessionId;

use crate::error::Failure;
use crate::output::{line, note, plain};

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
    format!("{word}  {place}{request}{why}{by}")
}
