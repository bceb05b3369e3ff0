//! Notices an agent that goes round in circles.
//!
//! ```text
//!  same call with the same result:   1 · 2 ▶ 3: a note to the model ▶ 5: the person is asked
//! ```

use std::collections::VecDeque;

use serde_json::Value;
use sha2::{Digest, Sha256};

const WINDOW: usize = 20;
const NOTE_AT: usize = 3;
const ASK_AT: usize = 5;

/// What is to be done about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// Tell the model.
    Note,
    /// Tell the model and ask the person.
    Ask,
}

/// The last calls with their results, hashed.
#[derive(Debug, Default)]
pub(crate) struct LoopGuard {
    ring: VecDeque<[u8; 32]>,
}

impl LoopGuard {
    /// Takes one call with its result.
    pub(crate) fn take(&mut self, tool: &str, input: &Value, result: &str) -> Verdict {
        let mut hasher = Sha256::new();
        for part in [tool, &input.to_string(), result] {
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
        let hash = hasher.finalize().into();
        if self.ring.len() == WINDOW {
            self.ring.pop_front();
        }
        self.ring.push_back(hash);
        match self.ring.iter().filter(|seen| **seen == hash).count() {
            ..NOTE_AT => Verdict::Fine,
            NOTE_AT..ASK_AT => Verdict::Note,
            ASK_AT.. => Verdict::Ask,
        }
    }

    /// Forgets what it saw: a new prompt, or the person said to go on.
    pub(crate) fn reset(&mut self) {
        self.ring.clear();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_equal_calls_with_equal_results_within_the_window_count() {
        let mut guard = LoopGuard::default();
        let input = json!({ "command": "make" });
        let verdicts: Vec<Verdict> = (0..5).map(|_| guard.take("Bash", &input, "no rule")).collect();
        use Verdict::{Ask, Fine, Note};
        assert_eq!(verdicts, [Fine, Fine, Note, Note, Ask]);
        assert_eq!(guard.take("Bash", &input, "another result"), Fine);
        for number in 0..WINDOW {
            guard.take("Bash", &json!(number), "x");
        }
        assert_eq!(guard.take("Bash", &input, "no rule"), Fine);
    }
}
