//! What the forge says of things.

use std::path::Path;

use serde_json::{Value, json};

use super::forge::{Check, Grant};
use super::git;
use super::state::{Comment, Issue, LineComment, Repository, Review};

const WHEN: &str = "2026-11-01T12:00:00Z";

pub(super) fn user(login: &str) -> Value {
    json!({ "login": login, "id": 1, "type": "User", "site_admin": false })
}

pub(super) fn repository(base: &str, repository: &Repository, grant: Option<&Grant>) -> Value {
    let name = &repository.full_name;
    let (owner, short) = name.split_once('/').unwrap_or(("", name));
    json!({
        "id": repository.id, "name": short, "full_name": name, "owner": user(owner),
        "private": repository.private, "archived": false, "fork": false,
        "default_branch": repository.default_branch,
        "html_url": format!("{base}/{name}"), "clone_url": format!("{base}/{name}.git"),
        "url": format!("{base}/api/v3/repos/{name}"), "description": null, "pushed_at": WHEN,
        "permissions": {
            "admin": false, "pull": true, "push": grant.is_some_and(|grant| grant.push),
        },
    })
}

pub(super) fn branch(repository: &Repository, (name, sha): &(String, String)) -> Value {
    json!({ "name": name, "commit": { "sha": sha, "url": "" }, "protected": repository.protected.contains(name) })
}

pub(super) fn issue(base: &str, repository: &Repository, issue: &Issue) -> Value {
    let page = if issue.pull.is_some() { "pull" } else { "issues" };
    let mut value = json!({
        "id": issue.number, "number": issue.number, "title": issue.title, "body": issue.body,
        "state": if issue.open { "open" } else { "closed" }, "user": user(&issue.login), "locked": false,
        "html_url": format!("{base}/{}/{page}/{}", repository.full_name, issue.number),
        "created_at": WHEN, "updated_at": WHEN, "labels": [], "assignees": [],
    });
    if issue.pull.is_some() {
        value["pull_request"] = json!({ "url": "", "html_url": "", "diff_url": "", "patch_url": "" });
    }
    value
}

pub(super) fn pull(base: &str, bare: &Path, repository: &Repository, issue: &Issue) -> Option<Value> {
    let pull = issue.pull.as_ref()?;
    let name = &repository.full_name;
    let owner = name.split('/').next().unwrap_or_default();
    let head_sha = git::tip(bare, &pull.head).unwrap_or_else(|| pull.head_sha.clone());
    let end = |branch: &str, sha: String| json!({ "label": format!("{owner}:{branch}"), "ref": branch, "sha": sha, "user": user(owner) });
    Some(json!({
        "id": issue.number, "number": issue.number, "title": issue.title, "body": issue.body,
        "state": if issue.open { "open" } else { "closed" }, "draft": pull.draft, "locked": false,
        "merged_at": pull.merged.then_some(WHEN), "created_at": WHEN, "updated_at": WHEN,
        "html_url": format!("{base}/{name}/pull/{}", issue.number), "user": user(&issue.login),
        "head": end(&pull.head, head_sha),
        "base": end(&pull.base, git::tip(bare, &pull.base).unwrap_or_default()),
        "maintainer_can_modify": true, "mergeable": true, "merged": pull.merged,
    }))
}

pub(super) fn comment(base: &str, repository: &Repository, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "body": comment.body, "user": user(&comment.login),
        "html_url": format!("{base}/{}/issues/{}#issuecomment-{}", repository.full_name, comment.number, comment.id),
        "created_at": WHEN, "updated_at": WHEN, "author_association": "OWNER",
    })
}

pub(super) fn review(review: &Review) -> Value {
    json!({
        "id": review.id, "state": review.state, "body": review.body, "user": user(&review.login),
        "submitted_at": WHEN, "author_association": "OWNER",
    })
}

pub(super) fn line_comment(comment: &LineComment) -> Value {
    let mut value = json!({
        "id": comment.id, "path": comment.path, "line": comment.line, "side": "RIGHT", "body": comment.body,
        "user": user(&comment.login), "created_at": WHEN, "updated_at": WHEN, "author_association": "OWNER",
    });
    if let Some(first) = comment.reply_to {
        value["in_reply_to_id"] = first.into();
    }
    value
}

pub(super) fn check(base: &str, repository: &Repository, (id, check): &(u64, Check)) -> Value {
    let done = check.conclusion.as_ref();
    json!({
        "id": id, "name": check.name, "head_sha": check.commit,
        "status": if done.is_some() { "completed" } else { "in_progress" }, "conclusion": done,
        "html_url": format!("{base}/{}/runs/{id}", repository.full_name),
        "started_at": WHEN, "completed_at": done.map(|_| WHEN),
        "output": { "title": null, "summary": null, "annotations_count": check.annotations.len() },
        "app": { "slug": "github-actions" },
    })
}

pub(super) fn annotation((path, line, message): &(String, u64, String)) -> Value {
    json!({
        "path": path, "start_line": line, "end_line": line, "annotation_level": "failure",
        "message": message, "title": null, "raw_details": null,
    })
}
