//! git, as far as sessions ask for it: commits whose files are the marks that commands left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use git_proxy::stand_in::{Invocation, Outcome};
use sha2::{Digest as _, Sha256};

/// The marks in a workspace.
pub(crate) type Files = BTreeSet<String>;

struct Commit {
    tree: String,
    parent: Option<String>,
}

#[derive(Default)]
struct Repository {
    refs: BTreeMap<String, String>,
    commits: BTreeSet<String>,
}

/// All repositories, and all commits that exist anywhere.
#[derive(Default)]
pub(crate) struct Git {
    repositories: BTreeMap<PathBuf, Repository>,
    commits: BTreeMap<String, Commit>,
    trees: BTreeMap<String, Files>,
}

impl Git {
    /// Makes a commit, here or in a sandbox.
    pub(crate) fn commit(&mut self, files: Files, parent: Option<&str>) -> String {
        let words: Vec<&str> = files.iter().map(String::as_str).collect();
        let tree = name(&words.join("\n"));
        let commit = name(&format!("{tree} {parent:?} {}", self.commits.len()));
        self.trees.insert(tree.clone(), files);
        self.commits.insert(commit.clone(), Commit { tree, parent: parent.map(ToOwned::to_owned) });
        commit
    }

    /// The files of a commit.
    pub(crate) fn files(&self, commit: &str) -> Option<&Files> {
        self.trees.get(&self.commits.get(commit)?.tree)
    }

    /// Where a branch of a repository is.
    pub(crate) fn branch(&self, repository: &Path, branch: &str) -> Option<String> {
        self.repositories.get(repository)?.refs.get(&format!("refs/heads/{branch}")).cloned()
    }

    /// What git would do.
    pub(crate) fn run(&mut self, run: &Invocation) -> Outcome {
        let args: Vec<&str> = run.args.iter().map(String::as_str).collect();
        let fail = |words: &str| (false, Vec::new(), format!("fatal: {words}"));
        let done = |printed: String| (true, printed.into_bytes(), String::new());
        if let ["init", .., path] = args[..] {
            std::fs::create_dir_all(path).unwrap();
            std::fs::write(Path::new(path).join("HEAD"), "simulated").unwrap();
            self.repositories.insert(path.into(), Repository::default());
            return done(String::new());
        }
        let Some(path) = &run.repository else { return fail("no repository") };
        match args[..] {
            ["fetch", ..] => match self.fetch(path, &args) {
                Ok(()) => done(String::new()),
                Err(words) => fail(&words),
            },
            ["rev-parse", .., wanted] => match self.resolve(path, wanted) {
                Some(found) => done(found),
                None => (false, Vec::new(), String::new()),
            },
            ["update-ref", name, commit] => {
                let commit = commit.to_owned();
                let Some(repository) = self.repositories.get_mut(path) else { return fail("gone") };
                if !repository.commits.contains(&commit) {
                    return fail(&format!("{name}: no such commit {commit}"));
                }
                repository.refs.insert(name.to_owned(), commit);
                done(String::new())
            }
            ["symbolic-ref", ..] => done(String::new()),
            ["commit-tree", tree, "-p", parent] => {
                let Some(files) = self.trees.get(tree).cloned() else { return fail("no such tree") };
                let commit = self.commit(files, Some(parent));
                self.repositories.entry(path.clone()).or_default().commits.insert(commit.clone());
                done(commit)
            }
            ["diff-tree", .., base, commit] => {
                let (Some(before), Some(after)) = (self.files(base), self.files(commit)) else {
                    return fail("no such commit");
                };
                done(listed(after.difference(before).count(), before.difference(after).count()))
            }
            // There are no files but the marks.
            ["ls-tree", ..] => done(String::new()),
            ["grep", ..] => (false, Vec::new(), String::new()),
            _ => panic!("nobody plays git {args:?}"),
        }
    }

    fn fetch(&mut self, path: &Path, args: &[&str]) -> Result<(), String> {
        let specs: Vec<(&str, &str)> =
            args.iter().filter_map(|arg| arg.strip_prefix('+')?.split_once(':')).collect();
        let bundle = args.iter().skip(1).find(|arg| arg.starts_with('/')).ok_or("no bundle")?;
        let text = std::fs::read_to_string(bundle).map_err(|error| error.to_string())?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let repository = self.repositories.get_mut(path).ok_or("gone")?;
        match words[..] {
            ["upload", commit] => {
                repository.commits.insert(commit.to_owned());
                let refs = ["refs/heads/main", "refs/patchyard/upload/head"];
                repository.refs.extend(refs.map(|name| (name.to_owned(), commit.to_owned())));
                Ok(())
            }
            ["checkpoint", commit] => {
                let parent = self.commits.get(commit).and_then(|known| known.parent.clone());
                if parent.is_some_and(|parent| !repository.commits.contains(&parent)) {
                    return Err("the bundle stands on a commit that is not here".into());
                }
                repository.commits.insert(commit.to_owned());
                repository.refs.extend(specs.iter().map(|(_, to)| ((*to).to_owned(), commit.to_owned())));
                Ok(())
            }
            _ => Err("that is no bundle".into()),
        }
    }

    fn resolve(&self, path: &Path, wanted: &str) -> Option<String> {
        let repository = self.repositories.get(path)?;
        let (name, kind) = wanted.split_once('^').unwrap_or((wanted, ""));
        let commit = repository.refs.get(name).map_or(name, String::as_str);
        let known = self.commits.get(commit).filter(|_| repository.commits.contains(commit))?;
        Some(if kind == "{tree}" { known.tree.clone() } else { commit.to_owned() })
    }
}

/// A diff as `--raw --numstat -z` prints it: one file with so many lines more and fewer.
fn listed(more: usize, fewer: usize) -> String {
    if more + fewer == 0 {
        return String::new();
    }
    format!(":100644 100644 0 1 M\0marks\0{more}\t{fewer}\tmarks\0")
}

fn name(text: &str) -> String {
    Sha256::digest(text).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}
