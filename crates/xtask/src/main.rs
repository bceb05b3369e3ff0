//! Automation in Rust.
//!
//! ```text
//!  cargo run -p xtask -- tidy       the checks that `cargo test -p xtask` runs, as a list
//!  cargo run -p xtask -- openapi    writes docs/openapi.json
//! ```

#![forbid(unsafe_code)]

mod tidy;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let result = match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let findings = tidy::check(&root());
            for finding in &findings {
                let _ = writeln!(out, "{finding}");
            }
            if findings.is_empty() { Ok(()) } else { Err(format!("{} findings", findings.len())) }
        }
        Some("openapi") => std::fs::write(root().join(OPENAPI), openapi_text())
            .map_err(|error| format!("{OPENAPI}: {error}")),
        _ => Err("usage: cargo run -p xtask -- tidy | openapi".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ = writeln!(out, "xtask: {reason}");
            ExitCode::from(1)
        }
    }
}

const OPENAPI: &str = "docs/openapi.json";

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The API's description as it is committed.
fn openapi_text() -> String {
    let text = serde_json::to_string_pretty(&server::openapi()).unwrap_or_default();
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let findings = tidy::check(&root());
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    #[test]
    fn the_committed_api_description_is_current() {
        let committed = std::fs::read_to_string(root().join(OPENAPI)).unwrap_or_default();
        assert!(committed == openapi_text(), "{OPENAPI} is old: run `cargo run -p xtask -- openapi`");
    }
}
