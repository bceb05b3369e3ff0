//! Unified diffs for the page.

use std::time::Duration;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

/// The longest patch that is shown with a call.
const MAX_PATCH: usize = 64 * 1024;

/// `{path, patch, additions, deletions, created}`, with `patch_truncated` where the patch was too long.
/// `before` is `None` for a new file.
pub(crate) fn detail(path: &str, before: Option<&[u8]>, after: &[u8]) -> Value {
    let old = String::from_utf8_lossy(before.unwrap_or_default());
    let new = String::from_utf8_lossy(after);
    // A deadline gives a coarser diff of huge files, never a wrong one.
    let diff = TextDiff::configure().timeout(Duration::from_millis(300)).diff_lines(&*old, &*new);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    let (additions, deletions) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
    let short = path.trim_start_matches('/');
    let from = if before.is_some() { format!("a/{short}") } else { "/dev/null".into() };
    let mut patch = diff.unified_diff().context_radius(3).header(&from, &format!("b/{short}")).to_string();
    let truncated = patch.len() > MAX_PATCH;
    if truncated {
        patch.truncate(patch.floor_char_boundary(MAX_PATCH));
    }
    let mut detail = json!({
        "path": path,
        "patch": patch,
        "additions": additions,
        "deletions": deletions,
        "created": before.is_none(),
    });
    if truncated {
        detail["patch_truncated"] = true.into();
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_a_new_file_are_told_apart() {
        let changed = detail("src/a.py", Some(b"one\ntwo\n"), b"one\n2\n");
        assert_eq!((changed["additions"].clone(), changed["deletions"].clone()), (1.into(), 1.into()));
        let patch = changed["patch"].as_str().unwrap();
        assert!(patch.starts_with("--- a/src/a.py\n+++ b/src/a.py\n@@"), "{patch}");
        assert!(patch.contains("-two\n+2\n"));
        let created = detail("b.py", None, b"x\n");
        assert_eq!(created["created"], true);
        assert!(created["patch"].as_str().unwrap().starts_with("--- /dev/null\n+++ b/b.py\n"));
    }
}
