//! The tools as the model sees them. The order is part of every request's stable prefix.

use model_gateway::Tool;
use serde_json::{Value, json};

use crate::library::Library;

/// Kinds of agents that the model is told of.
const MAX_KINDS: usize = 50;

/// All tools, always in this order.
pub(crate) fn definitions(library: &Library) -> Vec<Tool> {
    let mut tools =
        vec![bash(), read(), edit(), write(), glob(), grep(), todo_write(), task_output(), task_stop()];
    tools.extend(library.commands().any(|command| command.by_model).then(skill));
    tools.push(agent(library));
    tools
}

fn tool(name: &str, description: &str, properties: Value, required: &[&str]) -> Tool {
    Tool {
        name: name.into(),
        description: description.into(),
        input_schema: json!({ "type": "object", "properties": properties, "required": required }),
    }
}

fn bash() -> Tool {
    tool(
        "Bash",
        "Runs a command in a new shell inside the sandbox and gives its output, standard error merged in. \
         The working directory carries over to the next call; variables do not. There is no terminal and \
         no input. Output beyond 30,000 characters is cut in the middle and kept in a file that is named. \
         Use `run_in_background` for servers and other commands that do not end by themselves.",
        json!({
            "command": { "type": "string", "description": "The command" },
            "timeout": { "type": "number",
                "description": "Milliseconds until it is killed: 120000 unless given, at most 600000" },
            "description": { "type": "string", "description": "What it does, in five to ten words" },
            "run_in_background": { "type": "boolean",
                "description": "Return at once with a task id for TaskOutput and TaskStop" },
        }),
        &["command"],
    )
}

fn read() -> Tool {
    tool(
        "Read",
        "Reads a text file. Lines come as `<number>` and a tab before the text; up to 2,000 lines unless \
         `limit` says otherwise.",
        json!({
            "file_path": { "type": "string", "description": "Absolute path" },
            "offset": { "type": "number", "description": "The first line to read, from 1" },
            "limit": { "type": "number", "description": "How many lines to read" },
        }),
        &["file_path"],
    )
}

fn edit() -> Tool {
    tool(
        "Edit",
        "Replaces a text in a file. `old_string` must be exactly what the file holds, indentation \
         included and without line numbers, and must stand there once, unless `replace_all` is set. An \
         empty `old_string` makes a new file.",
        json!({
            "file_path": { "type": "string", "description": "Absolute path" },
            "old_string": { "type": "string", "description": "The text to replace" },
            "new_string": { "type": "string", "description": "The text to put in its place" },
            "replace_all": { "type": "boolean", "description": "Replace every occurrence" },
        }),
        &["file_path", "old_string", "new_string"],
    )
}

fn write() -> Tool {
    tool(
        "Write",
        "Writes a whole file; missing folders are made. Use Edit to change a part of a file.",
        json!({
            "file_path": { "type": "string", "description": "Absolute path" },
            "content": { "type": "string", "description": "The whole content" },
        }),
        &["file_path", "content"],
    )
}

fn glob() -> Tool {
    tool(
        "Glob",
        "Finds files by name, such as `**/*.rs` or `src/*.{ts,tsx}`; the most recently changed first, at \
         most 100.",
        json!({
            "pattern": { "type": "string", "description": "The pattern" },
            "path": { "type": "string", "description": "Where to look; the working directory unless given" },
        }),
        &["pattern"],
    )
}

fn grep() -> Tool {
    tool(
        "Grep",
        "Searches file contents with a regular expression, as ripgrep does. Files that git ignores are \
         left out.",
        json!({
            "pattern": { "type": "string", "description": "The regular expression" },
            "path": { "type": "string", "description": "File or folder; the working directory unless given" },
            "glob": { "type": "string", "description": "Only files like this, such as `*.py`" },
            "type": { "type": "string", "description": "Only files of this type, such as `rust` or `js`" },
            "output_mode": { "type": "string", "enum": ["content", "files_with_matches", "count"],
                "description": "Matching lines, file names (unless given), or counts" },
            "-B": { "type": "number", "description": "Lines before each match, with `content`" },
            "-A": { "type": "number", "description": "Lines after each match, with `content`" },
            "context": { "type": "number", "description": "Lines before and after each match" },
            "-n": { "type": "boolean", "description": "Line numbers, with `content`; on unless given" },
            "-i": { "type": "boolean", "description": "Ignore upper and lower case" },
            "-o": { "type": "boolean", "description": "Only the matching parts of lines" },
            "multiline": { "type": "boolean", "description": "Matches may span lines, and `.` matches line ends" },
            "head_limit": { "type": "number", "description": "At most so many lines: 250 unless given, 0 for all" },
            "offset": { "type": "number", "description": "Leave out so many lines first" },
        }),
        &["pattern"],
    )
}

fn todo_write() -> Tool {
    tool(
        "TodoWrite",
        "Replaces your list of steps, which the developer sees. Use it for work of three or more steps; \
         keep one step in progress, and mark each one completed as soon as it is.",
        json!({
            "todos": { "type": "array", "description": "The whole list", "items": {
                "type": "object",
                "properties": {
                    "content": { "type": "string", "description": "The step, such as `Run the tests`" },
                    "status": { "type": "string", "enum": ["pending", "in_progress", "completed"] },
                    "activeForm": { "type": "string",
                        "description": "The step while it runs, such as `Running the tests`" },
                },
                "required": ["content", "status", "activeForm"],
            } },
        }),
        &["todos"],
    )
}

fn task_output() -> Tool {
    tool(
        "TaskOutput",
        "Gives the output of a background task, and whether it still runs.",
        json!({
            "task_id": { "type": "string", "description": "The task" },
            "block": { "type": "boolean", "description": "Wait for its end; on unless given" },
            "timeout": { "type": "number",
                "description": "The longest wait in milliseconds: 30000 unless given, at most 600000" },
        }),
        &["task_id"],
    )
}

fn task_stop() -> Tool {
    tool(
        "TaskStop",
        "Stops a background task and everything that it started.",
        json!({ "task_id": { "type": "string", "description": "The task" } }),
        &["task_id"],
    )
}

fn skill() -> Tool {
    tool(
        "Skill",
        "Starts a skill of the repository: instructions for a kind of work, which come as the result. The skills that \
         there are were listed before the first prompt. Start one as soon as the task is what it is for, before you \
         begin the work, and follow it.",
        json!({
            "skill": { "type": "string", "description": "Its name" },
            "args": { "type": "string", "description": "Words for it, where it takes some" },
        }),
        &["skill"],
    )
}

fn agent(library: &Library) -> Tool {
    let kinds = library.subagents().take(MAX_KINDS);
    let kinds: Vec<String> = kinds.map(|kind| format!("- {}: {}", kind.name, kind.description)).collect();
    let description = format!(
        "Sends another agent to work on a part of the task, and gives its last words. It knows nothing of this \
         conversation, so tell it all that it needs and what it is to report; nobody answers its questions. Use it for \
         searches that would fill this conversation with files, and for parts that stand by themselves. Agents that \
         only look work at the same time when you call them in one message. The kinds:\n\n{}",
        kinds.join("\n")
    );
    tool(
        "Agent",
        &description,
        json!({
            "description": { "type": "string", "description": "The task in three to five words" },
            "prompt": { "type": "string", "description": "The whole task" },
            "subagent_type": { "type": "string", "description": "The kind; general-purpose unless given" },
        }),
        &["description", "prompt"],
    )
}
