//! The REST calls.

use serde_json::Value;

use super::forge::Grant;
use super::git;
use super::reply::{Reply, invalid, parameter, problem};
use super::shape;
use super::state::{Comment, Issue, LineComment, Pull, Repository, Review, State};

/// A request of somebody.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    /// Below `/api/v3/`, decoded.
    pub(super) path: &'a [String],
    pub(super) query: &'a [(String, String)],
    pub(super) accept: &'a str,
    pub(super) body: Value,
    pub(super) grant: Option<Grant>,
}

impl Call<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.body.get(name).and_then(Value::as_str).map(ToOwned::to_owned)
    }

    fn login(&self) -> String {
        self.grant.as_ref().map(|grant| grant.login.clone()).unwrap_or_default()
    }
}

/// What the forge does and says.
pub(super) fn answer(state: &mut State, call: &Call<'_>) -> Reply {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    match (call.method, path.as_slice()) {
        ("GET", ["user"]) => match &call.grant {
            Some(grant) => Reply::Json(200, shape::user(&grant.login)),
            None => problem(401, "Requires authentication"),
        },
        ("GET", ["user", "repos"]) => match &call.grant {
            Some(grant) => {
                let seen = state.repositories.iter().filter(|one| one.is_seen_by(Some(grant)));
                Reply::List(seen.map(|one| shape::repository(&state.base, one, Some(grant))).collect())
            }
            None => problem(401, "Requires authentication"),
        },
        (_, ["repositories", id, rest @ ..]) => {
            match state.repositories.iter().position(|one| one.id.to_string() == *id) {
                Some(at) => of_repository(state, at, call, rest),
                None => problem(404, "Not Found"),
            }
        }
        (_, ["repos", owner, name, rest @ ..]) => {
            let full_name = format!("{owner}/{name}");
            let Some(at) = state.place(&full_name) else { return problem(404, "Not Found") };
            let repository = &state.repositories[at];
            if !repository.is_seen_by(call.grant.as_ref()) {
                return problem(404, "Not Found");
            }
            if !repository.full_name.eq_ignore_ascii_case(&full_name) {
                let status = if call.method == "GET" { 301 } else { 307 };
                let tail: String = rest.iter().map(|part| format!("/{part}")).collect();
                let query: Vec<String> =
                    call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let place =
                    format!("{}/api/v3/repositories/{}{tail}?{}", state.base, repository.id, query.join("&"));
                return Reply::Moved(status, place);
            }
            of_repository(state, at, call, rest)
        }
        _ => problem(404, "Not Found"),
    }
}

fn of_repository(state: &mut State, at: usize, call: &Call<'_>, rest: &[&str]) -> Reply {
    let writes = call.method != "GET";
    if writes && !call.grant.as_ref().is_some_and(|grant| grant.push) {
        return problem(403, "Resource not accessible by personal access token");
    }
    let bare = state.bare(&state.repositories[at].full_name);
    let base = state.base.clone();
    let repository = &state.repositories[at];
    match (call.method, rest) {
        ("GET", []) => Reply::Json(200, shape::repository(&base, repository, call.grant.as_ref())),
        ("GET", ["branches"]) => {
            Reply::List(git::branches(&bare).iter().map(|one| shape::branch(repository, one)).collect())
        }
        ("GET", ["branches", name]) => match git::tip(&bare, name) {
            Some(sha) => Reply::Json(200, shape::branch(repository, &((*name).to_owned(), sha))),
            None => problem(404, "Branch not found"),
        },
        (_, ["pulls", rest @ ..]) => pulls(state, at, call, rest),
        (_, ["issues", rest @ ..]) => issues(state, at, call, rest),
        ("GET", ["commits", sha, "check-runs"]) => {
            let of = repository.checks.iter().filter(|(_, check)| check.commit == *sha && !check.status_only);
            Reply::Named("check_runs", of.map(|one| shape::check(&base, repository, one)).collect())
        }
        ("GET", ["commits", sha, "status"]) => {
            let of = repository.checks.iter().filter(|(_, check)| check.commit == *sha && check.status_only);
            Reply::Named("statuses", of.map(|(_, check)| serde_json::json!({
                "context": check.name, "state": check.conclusion.clone().unwrap_or_else(|| "pending".into()),
                "target_url": null, "description": null,
            })).collect())
        }
        ("GET", ["check-runs", id, "annotations"]) => match check(repository, id) {
            Some((_, check)) => Reply::List(check.annotations.iter().map(shape::annotation).collect()),
            None => problem(404, "Not Found"),
        },
        ("GET", ["actions", "jobs", id, "logs"]) => match check(repository, id) {
            Some(_) => Reply::Moved(302, format!("{base}/_logs/{id}?sig=signed")),
            None => problem(404, "Not Found"),
        },
        _ => problem(404, "Not Found"),
    }
}

fn check<'a>(repository: &'a Repository, id: &str) -> Option<&'a (u64, super::forge::Check)> {
    repository.checks.iter().find(|(known, _)| known.to_string() == id)
}

fn pulls(state: &mut State, at: usize, call: &Call<'_>, rest: &[&str]) -> Reply {
    let base = state.base.clone();
    let bare = state.bare(&state.repositories[at].full_name);
    match (call.method, rest) {
        ("POST", []) => return open(state, at, call),
        ("PATCH", [number]) => return edit(state, at, call, number),
        ("POST", [number, "comments", first, "replies"]) => return reply(state, at, call, number, first),
        ("POST", [number, "reviews"]) => return review(state, at, call, number),
        _ => {}
    }
    let repository = &state.repositories[at];
    let told = |issue: &Issue| shape::pull(&base, &bare, repository, issue);
    if call.method == "GET" && rest.is_empty() {
        let owner = repository.full_name.split('/').next().unwrap_or_default();
        let wanted = parameter(call.query, "state").unwrap_or("open");
        let head = parameter(call.query, "head");
        let of = repository.issues.iter().rev().filter(|issue| match wanted {
            "all" => true,
            "closed" => !issue.open,
            _ => issue.open,
        });
        let of = of.filter(|issue| {
            let label = issue.pull.as_ref().map(|pull| format!("{owner}:{}", pull.head));
            head.is_none_or(|head| label.as_deref() == Some(head))
        });
        return Reply::List(of.filter_map(told).collect());
    }
    let Some((number, rest)) = rest.split_first() else { return problem(404, "Not Found") };
    let number = number.parse().unwrap_or(0);
    let Some(issue) = repository.issue(number).filter(|issue| issue.pull.is_some()) else {
        return problem(404, "Not Found");
    };
    let range =
        || issue.pull.as_ref().map(|pull| format!("{}...{}", pull.base, pull.head)).unwrap_or_default();
    match (call.method, rest) {
        ("GET", []) if call.accept.contains("diff") => {
            Reply::Text(git::git(&bare, &["diff", &range()]).unwrap_or_default())
        }
        ("GET", []) => told(issue).map_or_else(|| problem(404, "Not Found"), |pull| Reply::Json(200, pull)),
        ("GET", ["files"]) => {
            let counted = git::git(&bare, &["diff", "--numstat", &range()]).unwrap_or_default();
            let file = |line: &str| {
                let mut parts = line.split('\t');
                let count = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                let (added, deleted) = (count(parts.next()), count(parts.next()));
                serde_json::json!({
                    "filename": parts.next(), "status": "modified", "additions": added, "deletions": deleted,
                    "changes": added + deleted,
                })
            };
            Reply::List(counted.lines().map(file).collect())
        }
        ("GET", ["reviews"]) => {
            let of = repository.reviews.iter().filter(|review| review.number == number);
            Reply::List(of.map(shape::review).collect())
        }
        ("GET", ["comments"]) => {
            let of = repository.line_comments.iter().filter(|comment| comment.number == number);
            Reply::List(of.map(shape::line_comment).collect())
        }
        _ => problem(404, "Not Found"),
    }
}

fn open(state: &mut State, at: usize, call: &Call<'_>) -> Reply {
    let bare = state.bare(&state.repositories[at].full_name);
    let (Some(title), Some(head), Some(base)) = (call.text("title"), call.text("head"), call.text("base"))
    else {
        return invalid("PullRequest", "title", Some("title, head and base are wanted"));
    };
    let Some(head_sha) = git::tip(&bare, &head) else { return invalid("PullRequest", "head", None) };
    if git::tip(&bare, &base).is_none() {
        return invalid("PullRequest", "base", None);
    }
    if git::ahead(&bare, &base, &head) == 0 {
        let words = format!("No commits between {base} and {head}");
        return invalid("PullRequest", "base", Some(&words));
    }
    let repository = &mut state.repositories[at];
    let same = |issue: &Issue| {
        issue.open && issue.pull.as_ref().is_some_and(|pull| pull.head == head && pull.base == base)
    };
    if repository.issues.iter().any(same) {
        let owner = repository.full_name.split('/').next().unwrap_or_default();
        let words = format!("A pull request already exists for {owner}:{head}.");
        return invalid("PullRequest", "head", Some(&words));
    }
    let issue = Issue {
        number: repository.next_number(),
        title,
        body: call.text("body"),
        open: true,
        login: call.login(),
        pull: Some(Pull {
            head,
            head_sha,
            base,
            draft: call.body.get("draft").and_then(Value::as_bool).unwrap_or(false),
            merged: false,
        }),
    };
    let told = shape::pull(&state.base, &bare, repository, &issue);
    repository.issues.push(issue);
    Reply::Json(201, told.unwrap_or_default())
}

fn edit(state: &mut State, at: usize, call: &Call<'_>, number: &str) -> Reply {
    let bare = state.bare(&state.repositories[at].full_name);
    let base = call.text("base");
    if base.as_ref().is_some_and(|base| git::tip(&bare, base).is_none()) {
        return invalid("PullRequest", "base", None);
    }
    let (url, repository) = (state.base.clone(), &mut state.repositories[at]);
    let number = number.parse().unwrap_or(0);
    let Some(issue) = repository.issue_mut(number) else { return problem(404, "Not Found") };
    if let Some(title) = call.text("title") {
        issue.title = title;
    }
    if let Some(body) = call.text("body") {
        issue.body = Some(body);
    }
    if let Some(state) = call.text("state") {
        issue.open = state == "open";
    }
    if let (Some(base), Some(pull)) = (base, &mut issue.pull) {
        pull.base = base;
    }
    let told = repository.issue(number).and_then(|issue| shape::pull(&url, &bare, repository, issue));
    told.map_or_else(|| problem(404, "Not Found"), |pull| Reply::Json(200, pull))
}

fn review(state: &mut State, at: usize, call: &Call<'_>, number: &str) -> Reply {
    let id = state.next_id();
    let event = call.text("event").unwrap_or_else(|| "COMMENT".into());
    let review = Review {
        id,
        number: number.parse().unwrap_or(0),
        state: match event.as_str() {
            "APPROVE" => "APPROVED",
            "REQUEST_CHANGES" => "CHANGES_REQUESTED",
            _ => "COMMENTED",
        }
        .into(),
        body: call.text("body").unwrap_or_default(),
        login: call.login(),
    };
    let told = shape::review(&review);
    state.repositories[at].reviews.push(review);
    Reply::Json(200, told)
}

fn reply(state: &mut State, at: usize, call: &Call<'_>, number: &str, first: &str) -> Reply {
    let first = first.parse().unwrap_or(0);
    let id = state.next_id();
    let repository = &mut state.repositories[at];
    let of = repository.line_comments.iter().find(|one| one.id == first && one.reply_to.is_none());
    let (Some(top), Some(body)) = (of, call.text("body")) else { return problem(404, "Not Found") };
    let comment = LineComment {
        id,
        number: number.parse().unwrap_or(0),
        reply_to: Some(first),
        path: top.path.clone(),
        line: top.line,
        body,
        login: call.login(),
    };
    let told = shape::line_comment(&comment);
    repository.line_comments.push(comment);
    Reply::Json(201, told)
}

fn issues(state: &mut State, at: usize, call: &Call<'_>, rest: &[&str]) -> Reply {
    let base = state.base.clone();
    if call.method == "GET" && rest.is_empty() {
        let repository = &state.repositories[at];
        let all = parameter(call.query, "state") == Some("all");
        let of = repository.issues.iter().rev().filter(|issue| all || issue.open);
        return Reply::List(of.map(|issue| shape::issue(&base, repository, issue)).collect());
    }
    let Some((number, rest)) = rest.split_first() else { return problem(404, "Not Found") };
    let number = number.parse().unwrap_or(0);
    if state.repositories[at].issue(number).is_none() {
        return problem(404, "Not Found");
    }
    match (call.method, rest) {
        ("GET", []) => {
            let repository = &state.repositories[at];
            let told = repository.issue(number).map(|issue| shape::issue(&base, repository, issue));
            Reply::Json(200, told.unwrap_or_default())
        }
        ("GET", ["comments"]) => {
            let repository = &state.repositories[at];
            let of = repository.comments.iter().filter(|comment| comment.number == number);
            Reply::List(of.map(|comment| shape::comment(&base, repository, comment)).collect())
        }
        ("POST", ["comments"]) => {
            let Some(body) = call.text("body") else { return invalid("IssueComment", "body", None) };
            let comment = Comment { id: state.next_id(), number, body, login: call.login() };
            let repository = &mut state.repositories[at];
            let told = shape::comment(&base, repository, &comment);
            repository.comments.push(comment);
            Reply::Json(201, told)
        }
        _ => problem(404, "Not Found"),
    }
}
