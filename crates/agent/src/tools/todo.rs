//! `TodoWrite`: the plan that people see.

use protocol::event::{PlanEntry, PlanStatus};
use serde_json::json;

use crate::outcome::Outcome;

pub(super) fn run(entries: Vec<PlanEntry>) -> Outcome {
    let count = |status| entries.iter().filter(|entry| entry.status == status).count();
    let (done, active) = (count(PlanStatus::Completed), count(PlanStatus::InProgress));
    let mut content = format!("The list is saved: {done} of {} steps are completed.", entries.len());
    if active > 1 {
        content.push_str(" More than one step is in progress; keep it to one.");
    }
    let detail = json!({ "completed": done, "total": entries.len() });
    Outcome { plan: Some(entries), ..Outcome::ok(content, detail) }
}
