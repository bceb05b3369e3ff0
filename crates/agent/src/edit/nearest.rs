//! The lines of a file that are most like a text which it does not hold.

use std::collections::HashMap;

/// Lines of the file that are looked at.
const MAX_LINES: usize = 50_000;

/// Lines that are quoted.
const MAX_QUOTED: usize = 12;

/// How alike two lines must be, from 0 to 1, to be worth quoting.
const ALIKE: f64 = 0.5;

/// The nearest place as `<number>\t<text>` lines, or `None` when nothing is like it.
pub(crate) fn nearest(file: &str, text: &str) -> Option<String> {
    let wanted: Vec<&str> = text.lines().collect();
    // The longest line says most about where the text belongs.
    let (anchor_at, anchor) = wanted.iter().enumerate().max_by_key(|(_, line)| line.trim().len())?;
    let anchor = Pairs::of(anchor.trim());
    let lines: Vec<&str> = file.lines().take(MAX_LINES).collect();
    let (best_at, best) = lines
        .iter()
        .enumerate()
        .map(|(at, line)| (at, anchor.likeness(line.trim())))
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
    if best < ALIKE {
        return None;
    }
    let from = best_at.saturating_sub(anchor_at);
    let to = (from + wanted.len().clamp(1, MAX_QUOTED)).max(best_at + 1).min(lines.len());
    let from = from.max(to.saturating_sub(MAX_QUOTED));
    let quoted = lines[from..to].iter().enumerate().map(|(at, line)| {
        let line: String = line.chars().take(300).collect();
        format!("{}\t{line}", from + at + 1)
    });
    Some(quoted.collect::<Vec<_>>().join("\n"))
}

/// How often each pair of neighbouring characters stands in a line.
struct Pairs {
    counts: HashMap<(char, char), usize>,
    total: usize,
}

impl Pairs {
    fn of(line: &str) -> Self {
        let mut counts = HashMap::new();
        let mut total = 0;
        for pair in pairs(line) {
            *counts.entry(pair).or_insert(0) += 1;
            total += 1;
        }
        Self { counts, total }
    }

    /// The share of pairs that both lines have.
    fn likeness(&self, line: &str) -> f64 {
        let mut left = self.counts.clone();
        let (mut common, mut total) = (0_usize, 0_usize);
        for pair in pairs(line) {
            total += 1;
            if let Some(count) = left.get_mut(&pair).filter(|count| **count > 0) {
                *count -= 1;
                common += 1;
            }
        }
        if self.total + total == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "lines are far shorter than 2^52")]
        let share = 2.0 * common as f64 / (self.total + total) as f64;
        share
    }
}

fn pairs(line: &str) -> impl Iterator<Item = (char, char)> {
    let characters = line.chars().take(400);
    characters.clone().zip(characters.skip(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_lines_around_the_likest_one_are_quoted() {
        let file = "import os\n\ndef total(items):\n    result = 0\n    for item in items:\n        result += item\n    return result\n";
        let text = "def total(item_list):\n    result = 0.0\n    for x in item_list:";
        assert_eq!(
            nearest(file, text).unwrap(),
            "3\tdef total(items):\n4\t    result = 0\n5\t    for item in items:"
        );
        assert_eq!(nearest(file, "completely different words"), None);
        assert_eq!(nearest("", "x"), None);
    }
}
