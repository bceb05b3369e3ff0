//! Paths as settings write them.
//!
//! ```text
//!               in a permission rule            in sandbox.filesystem
//!   //a/b       from the root                   from the root
//!   ~/a         below the home folder           the same
//!   /a          below the file's own folder     from the root
//!   ./a, a/b    below the working directory     below the file's own folder
//!   a           at any depth there              below the file's own folder
//! ```
//!
//! With globs as in `.gitignore`; what is named stands for all that is below it.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// Where the beginnings of paths lead to; all absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bases {
    /// `~`
    pub home: PathBuf,
    /// Where the command runs.
    pub working: PathBuf,
    /// What a settings file's own paths start from: the project's folder, or the folder that the file
    /// is in.
    pub source: PathBuf,
}

/// A path, or a glob over paths; absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// What has no glob in it.
    root: PathBuf,
    /// The rest, when there is a glob.
    glob: Option<String>,
}

impl PathPattern {
    /// A path of a permission rule. `widely`: a folder that is named alone is meant at any depth, as
    /// denials mean it.
    #[must_use]
    pub fn of_rule(text: &str, bases: &Bases, widely: bool) -> Self {
        if let Some(rest) = text.strip_prefix("//") {
            return Self::below(Path::new("/"), rest);
        }
        if let Some(rest) = home(text) {
            return Self::below(&bases.home, rest);
        }
        if let Some(rest) = text.strip_prefix('/') {
            return Self::below(&bases.source, rest);
        }
        if text.starts_with("./") || text.starts_with("../") || text == "." || text == ".." {
            return Self::below(&bases.working, text);
        }
        let stem = stem(text);
        if !stem.contains('/') && (widely || stem == text) {
            return Self { root: normal(&bases.working), glob: Some(format!("**/{stem}")) };
        }
        Self::below(&bases.working, text)
    }

    /// A path of `sandbox.filesystem` or `sandbox.credentials`.
    #[must_use]
    pub fn of_setting(text: &str, bases: &Bases) -> Self {
        if let Some(rest) = home(text) {
            return Self::below(&bases.home, rest);
        }
        match text.strip_prefix('/') {
            Some(rest) => Self::below(Path::new("/"), rest),
            None => Self::below(&bases.source, text),
        }
    }

    fn below(base: &Path, rest: &str) -> Self {
        let mut root = normal(base);
        let mut parts = stem(rest).split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
        while let Some(part) = parts.next_if(|part| !part.contains(['*', '?', '[', '{', '\\'])) {
            if part == ".." {
                root.pop();
            } else {
                root.push(part);
            }
        }
        let rest: Vec<&str> = parts.collect();
        Self { root, glob: (!rest.is_empty()).then(|| rest.join("/")) }
    }

    /// The path, when there is no glob.
    #[must_use]
    pub fn literal(&self) -> Option<&Path> {
        self.glob.is_none().then_some(self.root.as_path())
    }

    /// The folder that everything meant is in, or the path itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it can only mean what is this folder or below it.
    #[must_use]
    pub fn is_within(&self, folder: &Path) -> bool {
        let climbs = self.glob.as_deref().is_some_and(|glob| glob.split('/').any(|part| part == ".."));
        !climbs && self.root.starts_with(folder)
    }

    /// The same as one absolute glob.
    #[must_use]
    pub fn absolute_glob(&self) -> String {
        let root = globset::escape(&self.root.to_string_lossy());
        let Some(glob) = &self.glob else { return root };
        // As in `matcher`: what cannot be understood means its own text.
        let glob = if globset::Glob::new(glob).is_ok() { glob.clone() } else { globset::escape(glob) };
        format!("{}/{glob}", root.trim_end_matches('/'))
    }

    /// What tells whether a path is meant. A glob that cannot be understood means its own text.
    #[must_use]
    pub fn matcher(&self) -> Matcher {
        let glob = self.glob.as_deref().map(|glob| {
            let build =
                |text: &str| GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
            build(glob).or_else(|_| build(&globset::escape(glob))).map(|glob| glob.compile_matcher())
        });
        Matcher { root: self.root.clone(), glob: glob.and_then(Result::ok) }
    }
}

/// Tells whether an absolute path is meant by a pattern.
#[derive(Debug, Clone)]
pub struct Matcher {
    root: PathBuf,
    glob: Option<GlobMatcher>,
}

impl Matcher {
    /// Whether this very path is meant; what is below one that is needs no match of its own.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        match (&self.glob, path.strip_prefix(&self.root)) {
            (None, _) => path == self.root,
            (Some(glob), Ok(rest)) => !rest.as_os_str().is_empty() && glob.is_match(rest),
            (Some(_), Err(_)) => false,
        }
    }
}

fn home(text: &str) -> Option<&str> {
    if text == "~" { Some("") } else { text.strip_prefix("~/") }
}

/// Without what only says "and all below".
fn stem(mut text: &str) -> &str {
    while let Some(shorter) = text.strip_suffix("/**").or_else(|| text.strip_suffix('/')) {
        text = shorter;
    }
    text
}

/// Without `.` and `..`, by the letters alone.
fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(part) => result.push(part),
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bases() -> Bases {
        Bases { home: "/home/u".into(), working: "/w/sub".into(), source: "/w".into() }
    }

    #[test]
    fn the_beginning_of_a_path_says_where_it_starts() {
        for (text, rule, setting) in [
            ("//etc/x", "/etc/x", "/etc/x"),
            ("~/x", "/home/u/x", "/home/u/x"),
            ("~", "/home/u", "/home/u"),
            ("/x", "/w/x", "/x"),
            ("./x", "/w/sub/x", "/w/x"),
            ("x/y", "/w/sub/x/y", "/w/x/y"),
            ("../x/**", "/w/x", "/x"),
            ("//etc/../../root/", "/root", "/root"),
        ] {
            let rule_pattern = PathPattern::of_rule(text, &bases(), true);
            assert_eq!(rule_pattern.literal(), Some(Path::new(rule)), "{text} in a rule");
            let setting_pattern = PathPattern::of_setting(text, &bases());
            assert_eq!(setting_pattern.literal(), Some(Path::new(setting)), "{text} in a setting");
        }
    }

    #[test]
    fn globs_are_those_of_gitignore() {
        for (text, path, widely, expected) in [
            (".env", "/w/sub/a/b/.env", true, true),
            (".env", "/w/sub/.env", true, true),
            ("*.pem", "/w/sub/a/k.pem", true, true),
            ("src/**", "/w/sub/a/src", true, true),
            ("src/**", "/w/sub/a/src", false, false),
            ("src/**", "/w/sub/src", false, true),
            ("./*.pem", "/w/sub/k.pem", true, true),
            ("./*.pem", "/w/sub/a/k.pem", true, false),
            ("~/**/id_*", "/home/u/.ssh/id_rsa", true, true),
            ("//etc/[", "/etc/[", true, true),
            ("*.pem", "/elsewhere/k.pem", true, false),
        ] {
            let matcher = PathPattern::of_rule(text, &bases(), widely).matcher();
            assert_eq!(matcher.matches(Path::new(path)), expected, "{text} on {path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_absolute_pattern_without_dots(text in "[a~/.*\\[{}?!\\\\-]{0,24}") {
            for pattern in [
                PathPattern::of_rule(&text, &bases(), true),
                PathPattern::of_rule(&text, &bases(), false),
                PathPattern::of_setting(&text, &bases()),
            ] {
                prop_assert!(pattern.root().is_absolute());
                prop_assert!(pattern.root().components().all(|part| part != Component::ParentDir));
                let _ = pattern.matcher().matches(Path::new("/w/sub/a"));
            }
        }
    }
}
