//! Which answer a request gets.

use regex::Regex;
use serde_json::Value;

use super::turn::Turn;

/// What a request must show for a rule to apply.
#[derive(Debug, Clone)]
pub enum When {
    /// Every request.
    Always,
    /// The newest text of the user matches.
    LastUser(Regex),
    /// The newest tool result matches.
    LastToolResult(Regex),
}

impl When {
    /// The newest text of the user matches this expression.
    ///
    /// # Panics
    /// On an expression that is none.
    #[must_use]
    pub fn last_user(expression: &str) -> Self {
        Self::LastUser(compile(expression))
    }

    /// The newest tool result matches this expression.
    ///
    /// # Panics
    /// On an expression that is none.
    #[must_use]
    pub fn last_tool_result(expression: &str) -> Self {
        Self::LastToolResult(compile(expression))
    }

    fn holds(&self, body: &Value) -> bool {
        match self {
            Self::Always => true,
            Self::LastUser(regex) => newest(body, "text").is_some_and(|text| regex.is_match(&text)),
            Self::LastToolResult(regex) => {
                newest(body, "tool_result").is_some_and(|text| regex.is_match(&text))
            }
        }
    }
}

fn compile(expression: &str) -> Regex {
    Regex::new(expression).unwrap_or_else(|error| panic!("a script's expression is wrong: {error}"))
}

fn newest(body: &Value, kind: &str) -> Option<String> {
    let messages = body["messages"].as_array()?;
    messages.iter().rev().filter(|message| message["role"] == "user").find_map(|message| {
        let block = message["content"].as_array()?.iter().rev().find(|block| block["type"] == kind)?;
        let field = if kind == "text" { "text" } else { "content" };
        Some(block[field].as_str().map_or_else(|| block[field].to_string(), str::to_owned))
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Select {
    /// The n-th request that reaches the rule gets the n-th turn, so a failure is followed by the turn
    /// that its retry gets.
    InOrder,
    /// The turn is chosen by the number of assistant messages in the request.
    ByDepth,
}

#[derive(Debug, Clone)]
struct Rule {
    when: When,
    select: Select,
    turns: Vec<Turn>,
    used: usize,
}

/// Rules in order; the first that holds answers.
#[derive(Debug, Clone, Default)]
pub struct Script {
    rules: Vec<Rule>,
    pub(super) many_conversations: bool,
    /// How many requests need not begin with the bytes of the one before.
    pub(super) shortens: usize,
}

impl Script {
    /// These turns, one after the other.
    #[must_use]
    pub fn turns(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::default().when(When::Always, turns)
    }

    /// These turns, chosen by how many answers the request already shows. Good for several
    /// conversations at once, which are then told apart by their system prompts.
    #[must_use]
    pub fn by_depth(turns: impl IntoIterator<Item = Turn>) -> Self {
        let mut script = Self::turns(turns).many_conversations();
        for rule in &mut script.rules {
            rule.select = Select::ByDepth;
        }
        script
    }

    /// Adds a rule: these turns one after the other, for requests that show this.
    #[must_use]
    pub fn when(mut self, when: When, turns: impl IntoIterator<Item = Turn>) -> Self {
        self.rules.push(Rule { when, select: Select::InOrder, turns: turns.into_iter().collect(), used: 0 });
        self
    }

    /// Requests of several conversations reach the server; each is told by its system prompt.
    #[must_use]
    pub fn many_conversations(mut self) -> Self {
        self.many_conversations = true;
        self
    }

    /// The conversation goes back to where it was: a request need not begin with the one before.
    #[must_use]
    pub fn going_back(self) -> Self {
        self.shortens(usize::MAX)
    }

    /// So many times the conversation becomes shorter on the way: as many requests need not begin with the bytes of
    /// the one before.
    #[must_use]
    pub fn shortens(mut self, times: usize) -> Self {
        self.shortens = times;
        self
    }

    /// The next answer, or `None` when the script has none.
    pub(super) fn next(&mut self, body: &Value) -> Option<Turn> {
        let rule = self.rules.iter_mut().find(|rule| rule.when.holds(body))?;
        let index = match rule.select {
            Select::InOrder => {
                rule.used += 1;
                rule.used - 1
            }
            Select::ByDepth => {
                let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
                messages.iter().filter(|message| message["role"] == "assistant").count()
            }
        };
        rule.turns.get(index).cloned()
    }
}
