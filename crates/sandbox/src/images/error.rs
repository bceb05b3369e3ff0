//! What can go wrong with an image.

use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::name::MAX_NAME;

/// The most characters that are said of one fault.
const MAX_WORDS: usize = 2000;

/// Why an image cannot be had or made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a name.
    #[error(
        "`{0}` is no name for an image: up to {MAX_NAME} of a-z, 0-9, `.`, `_`, `-`, not beginning with `.`"
    )]
    Name(String),
    /// There is no such image.
    #[error("there is no image `{name}`; known are: {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    Unknown {
        /// As asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Somebody else than root could have changed it.
    #[error("the image `{0}` is not owned by root and is not used; import it again")]
    NotRoots(String),
    /// There is one already.
    #[error(
        "there is an image `{0}` already; choose another name or remove it first: patchyard image remove {0}"
    )]
    Exists(String),
    /// Another place holds it.
    #[error("the image `{name}` is kept in {}; remove it there: patchyard image remove {name} --data {}", .place.display(), .place.parent().unwrap_or(.place).display())]
    Elsewhere {
        /// Its name.
        name: String,
        /// The folder of images that has it.
        place: PathBuf,
    },
    /// Only root can keep owners.
    #[error("an image keeps its owners, which takes root; run this with sudo")]
    NotRoot,
    /// It does not hold a system.
    #[error("{} does not look like a root file system: it has no `usr` or `bin`", .0.display())]
    NoSystem(PathBuf),
    /// What it holds is broken, or meant to do harm.
    #[error("{} is no image that can be used: {why}", .path.display())]
    Bad {
        /// Where it came from.
        path: PathBuf,
        /// What is wrong, and what to do where something can be done.
        why: String,
    },
    /// Content that is not what its digest says.
    #[error("{what} is damaged: it should be {expected} and is {found}; fetch or export the image again")]
    Mismatch {
        /// Which part.
        what: String,
        /// As promised.
        expected: String,
        /// As found.
        found: String,
    },
    /// For other machines.
    #[error("this image is not for {wanted}; it is for: {}", .found.join(", "))]
    Platform {
        /// This machine.
        wanted: String,
        /// What there was.
        found: Vec<String>,
    },
    /// Several images in one layout.
    #[error("there are several images: {}; export the one that is meant alone", .0.join(", "))]
    Several(Vec<String>),
    /// A recipe that makes no sense.
    #[error("the recipe {} cannot be followed: {why}", .path.display())]
    Recipe {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A step of a recipe failed.
    #[error("the step {step} failed ({outcome}): {words}; the whole output is above")]
    Step {
        /// The script, or `packages`.
        step: String,
        /// How it ended.
        outcome: String,
        /// Its last words.
        words: String,
    },
    /// A program of the machine refused.
    #[error("{program} could not read {}: {words}", .path.display())]
    Program {
        /// Which program.
        program: &'static str,
        /// What it was given.
        path: PathBuf,
        /// What it said.
        words: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ImageError {
    /// Something is wrong with what came from `path`.
    pub(super) fn bad(path: &Path, why: impl Into<String>) -> Self {
        Self::Bad { path: path.to_owned(), why: one_line(&why.into()) }
    }

    /// What came from `path` could not be read or unpacked: its fault, unless it is the disk's.
    pub(super) fn unread(path: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Io { path: path.to_owned(), source: error }
            }
            _ => Self::bad(path, error.to_string()),
        }
    }

    /// Content is not what its digest says.
    pub(super) fn mismatch(what: impl Into<String>, expected: &Digest, found: &Digest) -> Self {
        let what = one_line(&what.into());
        Self::Mismatch { what, expected: expected.to_string(), found: found.to_string() }
    }
}

/// Words that quote what an image holds, as one line with an end: names in it may hold any character.
fn one_line(words: &str) -> String {
    let escaped = words.chars().flat_map(|letter| match letter {
        letter if letter.is_control() => letter.escape_default().collect::<Vec<_>>(),
        letter => vec![letter],
    });
    escaped.take(MAX_WORDS).collect()
}

/// Says what a failure was about.
pub(super) trait About<T> {
    fn about(self, path: &Path) -> Result<T, ImageError>;
}

impl<T, E: Into<io::Error>> About<T> for Result<T, E> {
    fn about(self, path: &Path) -> Result<T, ImageError> {
        self.map_err(|error| ImageError::Io { path: path.to_owned(), source: error.into() })
    }
}
