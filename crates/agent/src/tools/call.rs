//! A tool call as the model sent it, checked.

use protocol::event::PlanEntry;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::mcp::PREFIX;

/// The longest title.
const MAX_TITLE: usize = 120;

/// A call that may run.
#[derive(Debug)]
pub(crate) enum Call {
    Bash(BashInput),
    TaskOutput(TaskOutputInput),
    TaskStop(TaskStopInput),
    Read(ReadInput),
    Edit(EditInput),
    Write(WriteInput),
    Glob(GlobInput),
    Grep(Box<GrepInput>),
    TodoWrite(Vec<PlanEntry>),
    Skill(SkillInput),
    Agent(AgentInput),
    /// A tool of an MCP server, by its whole name.
    Mcp {
        name: String,
        input: Value,
    },
    ListResources {
        server: Option<String>,
    },
    ReadResource(ResourceInput),
}

#[derive(Debug, Deserialize)]
pub(crate) struct ResourceInput {
    pub(crate) server: String,
    pub(crate) uri: String,
}

#[derive(Debug, Deserialize)]
struct ResourcesInput {
    server: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BashInput {
    pub(super) command: String,
    /// Milliseconds.
    pub(super) timeout: Option<u64>,
    #[serde(default)]
    pub(super) run_in_background: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TaskOutputInput {
    pub(super) task_id: String,
    #[serde(default = "yes")]
    pub(super) block: bool,
    /// Milliseconds.
    pub(super) timeout: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TaskStopInput {
    pub(super) task_id: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ReadInput {
    pub(super) file_path: String,
    /// The first line, from 1.
    pub(super) offset: Option<usize>,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct EditInput {
    pub(super) file_path: String,
    pub(super) old_string: String,
    pub(super) new_string: String,
    #[serde(default)]
    pub(super) replace_all: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WriteInput {
    pub(super) file_path: String,
    pub(super) content: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GlobInput {
    pub(super) pattern: String,
    pub(super) path: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GrepInput {
    pub(super) pattern: String,
    pub(super) path: Option<String>,
    pub(super) glob: Option<String>,
    #[serde(rename = "type")]
    pub(super) file_type: Option<String>,
    pub(super) output_mode: Option<OutputMode>,
    #[serde(rename = "-B")]
    pub(super) before: Option<u64>,
    #[serde(rename = "-A")]
    pub(super) after: Option<u64>,
    #[serde(alias = "-C")]
    pub(super) context: Option<u64>,
    #[serde(rename = "-n")]
    pub(super) line_numbers: Option<bool>,
    #[serde(rename = "-i")]
    pub(super) ignore_case: Option<bool>,
    #[serde(rename = "-o")]
    pub(super) only_matching: Option<bool>,
    pub(super) multiline: Option<bool>,
    pub(super) head_limit: Option<u64>,
    pub(super) offset: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputMode {
    FilesWithMatches,
    Content,
    Count,
}

impl OutputMode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FilesWithMatches => "files_with_matches",
            Self::Content => "content",
            Self::Count => "count",
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct SkillInput {
    pub(crate) skill: String,
    pub(crate) args: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AgentInput {
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) prompt: String,
    pub(crate) subagent_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TodoInput {
    todos: Vec<Todo>,
}

#[derive(Debug, Deserialize)]
struct Todo {
    content: String,
    status: protocol::event::PlanStatus,
    #[serde(rename = "activeForm", default)]
    active_form: String,
}

fn yes() -> bool {
    true
}

/// The call, or why it cannot run, in words for the model. Fields that are not known are passed over.
pub(crate) fn parse(name: &str, input: &Value) -> Result<Call, String> {
    Ok(match name {
        "Bash" => Call::Bash(typed(name, input)?),
        "TaskOutput" => Call::TaskOutput(typed(name, input)?),
        "TaskStop" => Call::TaskStop(typed(name, input)?),
        "Read" => Call::Read(typed(name, input)?),
        "Edit" => Call::Edit(typed(name, input)?),
        "Write" => Call::Write(typed(name, input)?),
        "Glob" => Call::Glob(typed(name, input)?),
        "Grep" => Call::Grep(Box::new(typed(name, input)?)),
        "Skill" => Call::Skill(typed(name, input)?),
        "Agent" | "Task" => Call::Agent(typed(name, input)?),
        "TodoWrite" => {
            let input: TodoInput = typed(name, input)?;
            let entries = input.todos.into_iter().map(|todo| PlanEntry {
                content: todo.content,
                active_form: todo.active_form,
                status: todo.status,
            });
            Call::TodoWrite(entries.collect())
        }
        "ListMcpResourcesTool" | "ListMcpResources" => {
            let ResourcesInput { server } = typed(name, input)?;
            Call::ListResources { server: server.filter(|server| !server.is_empty()) }
        }
        "ReadMcpResourceTool" | "ReadMcpResource" => Call::ReadResource(typed(name, input)?),
        _ if name.starts_with(PREFIX) => Call::Mcp { name: name.to_owned(), input: input.clone() },
        _ => return Err(format!("there is no tool named `{name}`")),
    })
}

fn typed<T: DeserializeOwned>(name: &str, input: &Value) -> Result<T, String> {
    T::deserialize(input).map_err(|error| format!("the input of {name} is not as its schema says: {error}"))
}

/// One line for people: the command, the path, the pattern.
pub(crate) fn title(name: &str, input: &Value, workspace: &str) -> String {
    let text = |field: &str| input[field].as_str().unwrap_or_default();
    let short = |path: &str| {
        path.strip_prefix(workspace).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path).to_owned()
    };
    let title = match name {
        "Bash" => text("command").to_owned(),
        "Read" | "Edit" | "Write" => short(text("file_path")),
        "Glob" | "Grep" if input["path"].is_string() => {
            format!("{} in {}", text("pattern"), short(text("path")))
        }
        "Glob" | "Grep" => text("pattern").to_owned(),
        "TaskOutput" | "TaskStop" => text("task_id").to_owned(),
        "Skill" => format!("{} {}", text("skill"), text("args")),
        "Agent" | "Task" => text("description").to_owned(),
        "TodoWrite" => {
            let todos = input["todos"].as_array().map_or(&[][..], Vec::as_slice);
            let done = todos.iter().filter(|todo| todo["status"] == "completed").count();
            format!("{done} of {} done", todos.len())
        }
        "ListMcpResourcesTool" => text("server").to_owned(),
        "ReadMcpResourceTool" => format!("{}: {}", text("server"), text("uri")),
        _ if name.starts_with(PREFIX) && input.as_object().is_some_and(|input| !input.is_empty()) => {
            input.to_string().chars().take(2 * MAX_TITLE).collect()
        }
        _ => String::new(),
    };
    let line = title.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_TITLE {
        return line;
    }
    line.chars().take(MAX_TITLE - 1).chain(['…']).collect()
}
