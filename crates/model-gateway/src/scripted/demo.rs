//! The played model of `patchyard demo`.
//!
//! ```text
//!  plan ─▶ run tests ─▶ red? ─▶ read the file ─▶ edit the line it showed ─▶ run tests ─▶ green? ─▶ report
//!                        │ no        │ no line       │ error                   │ red
//!                        └───────────┴───────────────┴─────────────────────────┴──▶ says so, and ends
//! ```
//!
//! It decides from the tool results that it is sent, nothing else: a broken `Edit`, a missing Python or
//! a sandbox that does not answer makes the demo fail, as it would with a real model.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Auth, ModelConfig, Secret};

use super::demo_text::{Done, calls, last_line, shown_line};
use super::reply::Reply;
use super::server::{Call, Player, ScriptedServer};

/// The bundled repository: path and content.
pub const FILES: &[(&str, &str)] = &[
    (".gitignore", include_str!("demo_repository/.gitignore")),
    ("README.md", include_str!("demo_repository/README.md")),
    ("slugify.py", include_str!("demo_repository/slugify.py")),
    ("test_slugify.py", include_str!("demo_repository/test_slugify.py")),
];

/// The task that the demo gives.
pub const PROMPT: &str = "A test of this package fails: shortened slugs can end with a separator. \
                          Find the bug, fix it, and show that all tests pass.";

/// The command that runs the bundled repository's tests.
pub const TEST_COMMAND: &str = "python3 -m unittest -q";

/// The name of the played model, shown wherever a model's name is.
pub const MODEL: &str = "scripted";

const OUTCOME: &str = "Fixed: ";
const BUG: &str = "slug[:max_length]";
const FIX: &str = "slug[:max_length].rstrip(separator)";

/// Whether the model's last words report that the bug is fixed and the tests pass.
#[must_use]
pub fn outcome_ok(final_text: &str) -> bool {
    final_text.trim_start().starts_with(OUTCOME)
}

/// Starts the server that plays the demo.
pub async fn start() -> std::io::Result<ScriptedServer> {
    ScriptedServer::start(Arc::new(Demo)).await
}

/// The way to that server. The key is a word: the played model asks for none.
#[must_use]
pub fn config(server: &ScriptedServer) -> ModelConfig {
    ModelConfig::new(server.base_url(), Auth::ApiKey(Secret::new("scripted")), MODEL)
}

/// The player of the demo's rules.
#[derive(Debug, Clone, Copy)]
pub struct Demo;

impl Player for Demo {
    fn play(&self, call: &Call) -> Reply {
        Reply { chunk: 12, pause: Duration::from_millis(4), ..decide(&calls(&call.body)) }
    }
}

/// The next message, from the calls that were made so far.
fn decide(calls: &[Done]) -> Reply {
    let Some(last) = calls.last() else {
        return plan(
            "I will run the tests first to see what fails, then look at the code.",
            ["in_progress", "pending", "pending"],
        );
    };
    let nth = calls.iter().filter(|call| call.name == last.name).count();
    match (last.name.as_str(), nth) {
        ("TodoWrite", _) if last.is_error => {
            Reply::text(format!("I could not write my plan: {}", last_line(&last.text)))
        }
        ("TodoWrite", 1) => {
            Reply::default().and_tool("Bash", bash("Run the tests", &format!("pwd && {TEST_COMMAND}")))
        }
        ("Bash", 1) => after_first_tests(last),
        ("Read", _) => after_read(last),
        ("Edit", _) if last.is_error => {
            Reply::text(format!("The edit failed, so nothing is fixed: {}", last_line(&last.text)))
        }
        ("Edit", _) => Reply::text("The edit is in place. I will run the tests again.")
            .and_tool("Bash", bash("Run the tests after the change", TEST_COMMAND)),
        ("Bash", _) if last.is_error => {
            Reply::text(format!("The tests still fail after the change: {}", last_line(&last.text)))
        }
        ("Bash", _) => plan("All tests pass now.", ["completed", "completed", "completed"]),
        ("TodoWrite", _) => report(),
        (name, _) => Reply::text(format!("I do not know what to do with a result of {name}.")),
    }
}

fn after_first_tests(tests: &Done) -> Reply {
    if !tests.is_error {
        return Reply::text("I expected a failing test, but all tests pass. I changed nothing.");
    }
    // The report of `unittest` names its failures; anything else means that the tests did not even run.
    if !tests.text.contains("FAILED (failures=") {
        return Reply::text(format!("The tests could not be run: {}", last_line(&tests.text)));
    }
    let folder = tests.text.lines().find(|line| line.starts_with('/')).unwrap_or(".");
    Reply::text("One test fails, as the task says. I will look at the function.")
        .and_tool("Read", json!({ "file_path": format!("{folder}/slugify.py") }))
}

fn after_read(read: &Done) -> Reply {
    let Some(line) = shown_line(&read.text, BUG).filter(|_| !read.is_error) else {
        return Reply::text(format!("I do not find the bug in what I read: {}", last_line(&read.text)));
    };
    Reply::text("The cut at `max_length` can leave a separator at the end of the slug.").and_tool(
        "Edit",
        json!({
            "file_path": read.input["file_path"],
            "old_string": line,
            "new_string": line.replace(BUG, FIX),
        }),
    )
}

fn report() -> Reply {
    Reply::text(format!(
        "{OUTCOME}`slugify` cut a long slug at `max_length` and could leave a separator at the end. \
         It now strips the separator after the cut.\n\n\
         - Changed: one line in `slugify.py`.\n\
         - Verified: `{TEST_COMMAND}` failed before the change and passes now."
    ))
}

fn bash(description: &str, command: &str) -> Value {
    json!({ "command": command, "description": description })
}

fn plan(text: &str, status: [&str; 3]) -> Reply {
    let [first, second, third] = status;
    let todos = json!([
        { "content": "Run the tests", "activeForm": "Running the tests", "status": first },
        { "content": "Fix the bug in slugify.py", "activeForm": "Fixing the bug", "status": second },
        { "content": "Run the tests again", "activeForm": "Running the tests again", "status": third },
    ]);
    Reply::text(text).and_tool("TodoWrite", json!({ "todos": todos }))
}
