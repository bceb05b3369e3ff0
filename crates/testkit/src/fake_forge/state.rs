//! What the forge knows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::http::HeaderMap;
use tokio::sync::watch;

use super::fault::Waiting;
use super::forge::{Check, Grant};

#[derive(Debug)]
pub(super) struct State {
    pub(super) news: watch::Sender<usize>,
    /// Where the repositories are: `owner/name.git`.
    pub(super) root: PathBuf,
    /// `https://127.0.0.1:PORT`.
    pub(super) base: String,
    pub(super) tokens: BTreeMap<String, Grant>,
    pub(super) repositories: Vec<Repository>,
    pub(super) faults: Vec<Waiting>,
    pub(super) asked: Vec<(String, HeaderMap)>,
    pub(super) last_id: u64,
}

#[derive(Debug)]
pub(super) struct Repository {
    pub(super) id: u64,
    /// `owner/name`.
    pub(super) full_name: String,
    /// Names that it had.
    pub(super) formerly: Vec<String>,
    pub(super) private: bool,
    pub(super) default_branch: String,
    pub(super) protected: Vec<String>,
    pub(super) issues: Vec<Issue>,
    pub(super) comments: Vec<Comment>,
    pub(super) reviews: Vec<Review>,
    pub(super) line_comments: Vec<LineComment>,
    pub(super) checks: Vec<(u64, Check)>,
}

/// An issue; with a `pull`, a pull request. They share their numbers.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) number: u64,
    pub(super) title: String,
    pub(super) body: Option<String>,
    pub(super) open: bool,
    pub(super) login: String,
    pub(super) pull: Option<Pull>,
}

#[derive(Debug)]
pub(super) struct Pull {
    pub(super) head: String,
    /// Where the branch was when it was there last.
    pub(super) head_sha: String,
    pub(super) base: String,
    pub(super) draft: bool,
    pub(super) merged: bool,
}

#[derive(Debug)]
pub(super) struct Comment {
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) body: String,
    pub(super) login: String,
}

#[derive(Debug)]
pub(super) struct Review {
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) state: String,
    pub(super) body: String,
    pub(super) login: String,
}

#[derive(Debug)]
pub(super) struct LineComment {
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) reply_to: Option<u64>,
    pub(super) path: String,
    pub(super) line: u64,
    pub(super) body: String,
    pub(super) login: String,
}

impl State {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Where a repository is, by its name or one that it had.
    pub(super) fn place(&self, full_name: &str) -> Option<usize> {
        let by_name = |repository: &Repository| repository.full_name.eq_ignore_ascii_case(full_name);
        let at = self.repositories.iter().position(by_name);
        at.or_else(|| {
            self.repositories
                .iter()
                .position(|repository| repository.formerly.iter().any(|name| name == full_name))
        })
    }

    pub(super) fn bare(&self, full_name: &str) -> PathBuf {
        self.root.join(format!("{full_name}.git"))
    }
}

impl Repository {
    /// Whether somebody may see it.
    pub(super) fn is_seen_by(&self, grant: Option<&Grant>) -> bool {
        let named = |grant: &Grant| {
            let only = grant.only.as_ref();
            only.is_none_or(|only| only.contains(&self.full_name))
        };
        !self.private || grant.is_some_and(named)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.issues.iter().map(|issue| issue.number).max().unwrap_or(0) + 1
    }

    pub(super) fn issue(&self, number: u64) -> Option<&Issue> {
        self.issues.iter().find(|issue| issue.number == number)
    }

    pub(super) fn issue_mut(&mut self, number: u64) -> Option<&mut Issue> {
        self.issues.iter_mut().find(|issue| issue.number == number)
    }
}
