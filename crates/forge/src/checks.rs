//! Checks of a commit: check runs, and the statuses of older services.

use serde::Deserialize;

use crate::address::RepoName;
use crate::client::GitHub;
use crate::error::ForgeError;
use crate::model::{Annotation, CheckRun, CommitStatus};
use crate::resolve::why;

/// Pages that are looked at.
const PAGES: usize = 10;

/// How much of a log is read, in bytes.
const MAX_LOG: usize = 64 * 1024 * 1024;

/// All checks of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// Check runs, the newest of each name.
    pub runs: Vec<CheckRun>,
    /// Statuses, the newest of each name.
    pub statuses: Vec<CommitStatus>,
}

#[derive(Deserialize)]
struct Runs {
    check_runs: Vec<CheckRun>,
}

#[derive(Deserialize)]
struct Combined {
    #[serde(default)]
    statuses: Vec<CommitStatus>,
}

impl GitHub {
    /// The checks of a commit.
    pub async fn checks(&self, of: &RepoName, commit: &str) -> Result<Checks, ForgeError> {
        let wanted = || format!("read the checks of {of}");
        let path = ["repos", &of.owner, &of.name, "commits", commit, "check-runs"];
        let pages: Vec<Runs> = self.pages(self.get(&path, wanted()), PAGES).await?;
        let path = ["repos", &of.owner, &of.name, "commits", commit, "status"];
        let combined: Vec<Combined> = self.pages(self.get(&path, wanted()), PAGES).await?;
        Ok(Checks {
            runs: pages.into_iter().flat_map(|page| page.check_runs).collect(),
            statuses: combined.into_iter().flat_map(|page| page.statuses).collect(),
        })
    }

    /// What a check run remarks at lines.
    pub async fn annotations(&self, of: &RepoName, run: u64) -> Result<Vec<Annotation>, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "check-runs", &run.to_string(), "annotations"];
        let ask = self.get(&path, format!("read what check {run} of {of} remarks"));
        let pages: Vec<Vec<Annotation>> = self.pages(ask, PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// The end of the log of an Actions job, `most` bytes of it; hostile text.
    pub async fn job_log(&self, of: &RepoName, job: u64, most: usize) -> Result<String, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "actions", "jobs", &job.to_string(), "logs"];
        let place = self.place(&self.get(&path, format!("read the log of job {job} of {of}"))).await?;
        let mut response = self.signed(place).await?;
        let (mut tail, mut read) = (Vec::new(), 0);
        while let Some(piece) = response.chunk().await.map_err(|error| why(self.host(), &error))? {
            read += piece.len();
            if read > MAX_LOG {
                break;
            }
            tail.extend_from_slice(&piece);
            if tail.len() > 2 * most {
                tail.drain(..tail.len() - most);
            }
        }
        tail.drain(..tail.len().saturating_sub(most));
        Ok(String::from_utf8_lossy(&tail).into_owned())
    }
}
