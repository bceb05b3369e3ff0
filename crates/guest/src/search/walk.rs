//! Which files a search looks at.

use std::fs::Metadata;
use std::path::Path;

use ignore::overrides::{Override, OverrideBuilder};
use ignore::types::TypesBuilder;
use ignore::{DirEntry, Walk, WalkBuilder};

use super::SearchError;

/// What limits a walk.
#[derive(Debug, Default)]
pub(super) struct Limits<'a> {
    /// File patterns, as after ripgrep's `--glob`.
    pub(super) globs: &'a [&'a str],
    /// A file type, as after ripgrep's `--type`.
    pub(super) file_type: Option<&'a str>,
    /// What is not looked at, as globs over absolute paths, whatever is below it neither.
    pub(super) exclude: &'a [String],
    /// Whether `.gitignore` and its like are respected.
    pub(super) respect_ignores: bool,
}

/// The facts of the place to search in.
pub(super) fn place(path: &str) -> Result<Metadata, SearchError> {
    std::fs::metadata(path).map_err(|source| SearchError::Place { path: path.to_owned(), source })
}

/// Regular files below `base`, in the order of their paths; hidden ones too, `.git` never.
pub(super) fn files(
    base: &Path,
    limits: &Limits<'_>,
) -> Result<impl Iterator<Item = DirEntry> + use<>, SearchError> {
    Ok(walk(base, limits)?
        .flatten()
        .filter(|entry| entry.file_type().is_some_and(|file_type| file_type.is_file())))
}

fn walk(base: &Path, limits: &Limits<'_>) -> Result<Walk, SearchError> {
    let mut builder = WalkBuilder::new(base);
    let excluded = excluded(limits.exclude)?;
    builder.standard_filters(limits.respect_ignores).hidden(false).sort_by_file_path(Path::cmp).filter_entry(
        move |entry| {
            let is_folder = entry.file_type().is_some_and(|file_type| file_type.is_dir());
            !excluded.matched(entry.path(), is_folder).is_ignore()
                && (entry.depth() == 0 || entry.file_name() != ".git")
        },
    );
    if !limits.globs.is_empty() {
        let mut overrides = OverrideBuilder::new(base);
        for pattern in limits.globs {
            let bad = |source| SearchError::Glob { pattern: (*pattern).to_owned(), source };
            overrides.add(pattern).map_err(bad)?;
        }
        let bad = |source| SearchError::Glob { pattern: limits.globs.join(" "), source };
        builder.overrides(overrides.build().map_err(bad)?);
    }
    if let Some(name) = limits.file_type {
        let mut types = TypesBuilder::new();
        types.add_defaults();
        types.select(name);
        builder.types(types.build().map_err(|_| SearchError::Type(name.to_owned()))?);
    }
    Ok(builder.build())
}

fn excluded(globs: &[String]) -> Result<Override, SearchError> {
    let mut overrides = OverrideBuilder::new("/");
    let bad = |pattern: &str| {
        let pattern = pattern.to_owned();
        move |source| SearchError::Glob { pattern, source }
    };
    for glob in globs {
        overrides.add(&format!("!{glob}")).map_err(bad(glob))?;
    }
    overrides.build().map_err(bad(&globs.join(" ")))
}
