//! The binary under test on a data directory of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// What it printed, if it did what it should.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// It failed with this code, and said all of these in one line.
    pub(crate) fn says(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "{word}: {}", self.err);
        }
    }
}

/// A data directory, gone at the end.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self { folder: folder.unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `patchyard image …` to its end.
    pub(crate) fn image(&self, arguments: &[&str]) -> Ran {
        self.image_with(arguments, "")
    }

    /// Runs it with something on standard input.
    pub(crate) fn image_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_patchyard"))
            .arg("image")
            .args(arguments)
            .arg("--data")
            .arg(self.path("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The images of this data directory, by name and digest.
    pub(crate) fn list(&self) -> Vec<serde_json::Value> {
        let text = self.image(&["list", "--json"]).good();
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        list.into_iter()
            .filter(|image| self.path("data/images").join(image["name"].as_str().unwrap()).exists())
            .collect()
    }

    /// A file of an image.
    pub(crate) fn read(&self, name: &str, file: &str) -> String {
        let images = self.list();
        let image = images.iter().find(|image| image["name"] == name).unwrap();
        let digest = image["digest"].as_str().unwrap().trim_start_matches("sha256:");
        std::fs::read_to_string(self.path("data/images/.trees").join(digest).join("rootfs").join(file))
            .unwrap()
    }
}
