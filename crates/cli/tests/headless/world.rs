//! A folder, a home, a scripted model, and runs of the binary between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::harness::Must as _;
use testkit::model::{Recorded, Script, ScriptedModel, Turn};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// What no run takes.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    dir: TempDir,
    pub(crate) model: ScriptedModel,
}

impl World {
    pub(crate) async fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::with(Script::turns(turns)).await
    }

    pub(crate) async fn with(script: Script) -> Self {
        let dir = tempfile::Builder::new().prefix("headless-").tempdir().unwrap();
        for folder in ["home/.claude", "work/project/.git"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("work/project/.git/HEAD"), "ref: refs/heads/trunk\n").unwrap();
        Self { dir, model: ScriptedModel::start(script).await }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A file of the project.
    pub(crate) fn put(&self, name: &str, content: &str) {
        self.write(&format!("work/project/{name}"), content);
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("work/project/{name}"))).unwrap()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(&format!("work/project/{name}")).exists()
    }

    /// Says that the person trusts the project.
    pub(crate) fn trust(&self) {
        let project = self.path("work/project").to_str().unwrap().to_owned();
        let facts = json!({ "projects": { project: { "hasTrustDialogAccepted": true } } });
        self.write("home/.claude.json", &facts.to_string());
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchyard"));
        command
            .args(arguments)
            .current_dir(self.path("work/project"))
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("ANTHROPIC_API_KEY", "sk-of-this-test")
            .env("ANTHROPIC_BASE_URL", self.model.base_url())
            .env("ANTHROPIC_MODEL", "scripted-model")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_of(self.command(arguments)).await
    }

    pub(crate) async fn run_of(&self, mut command: Command) -> Ran {
        Ran(timeout(DEADLINE, command.output()).await.must("the run takes too long").unwrap())
    }

    /// A run that prints everything.
    pub(crate) async fn stream(&self, arguments: &[&str]) -> Ran {
        let usual = ["--output-format", "stream-json", "--verbose"];
        self.run(&[&usual[..], arguments].concat()).await
    }

    /// A run that is driven over its streams.
    pub(crate) fn drive(&self, arguments: &[&str]) -> Driven {
        let usual = ["--output-format", "stream-json", "--verbose", "--input-format", "stream-json"];
        let mut command = self.command(&[&usual[..], arguments].concat());
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Driven { input: child.stdin.take(), lines, child, seen: Vec::new() }
    }

    /// The texts of the newest prompt of a request.
    pub(crate) fn said(&self, request: usize) -> String {
        said(&self.model.requests()[request])
    }

    pub(crate) fn transcripts(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in fs::read_dir(self.path("home/.patchyard/projects")).into_iter().flatten().flatten() {
            let files = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
            found.extend(files.filter(|path| path.is_file()));
        }
        found
    }
}

pub(crate) fn said(request: &Recorded) -> String {
    let messages = request.body["messages"].as_array().unwrap();
    let user = messages.iter().rfind(|message| message["role"] == "user").unwrap();
    texts(&user["content"]).join("\n")
}

fn texts(content: &Value) -> Vec<String> {
    let blocks = content.as_array().cloned().unwrap_or_else(|| vec![json!({ "text": content })]);
    blocks.iter().filter_map(|block| block["text"].as_str().map(str::to_owned)).collect()
}

/// A run that is over.
pub(crate) struct Ran(Output);

impl Ran {
    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(code), "{}\n{}", self.out(), self.err());
        self
    }

    /// All lines, which are JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The `result`, which is the only one, and last.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        let lines = self.lines();
        assert_eq!(of(&lines, "result").len(), 1, "{lines:#?}");
        lines.last().filter(|line| line["type"] == "result").unwrap().clone()
    }
}

/// The lines of a type, or of a type and subtype: `system/init`.
pub(crate) fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let (kind, subtype) = kind.split_once('/').map_or((kind, None), |(kind, subtype)| (kind, Some(subtype)));
    lines
        .iter()
        .filter(|line| line["type"] == kind && subtype.is_none_or(|subtype| line["subtype"] == subtype))
        .collect()
}

/// A run that goes on.
pub(crate) struct Driven {
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) child: Child,
    pub(crate) seen: Vec<Value>,
}

impl Driven {
    pub(crate) async fn say(&mut self, line: &Value) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn prompt(&mut self, text: &str) {
        self.say(&user(text)).await;
    }

    /// Asks something of the agent, and gives the answer.
    pub(crate) async fn ask(&mut self, request: Value) -> Value {
        let id = format!("req-{}", self.seen.len());
        self.say(&json!({ "type": "control_request", "request_id": id, "request": request })).await;
        let answer = self.until(|line| {
            line["type"] == "control_response" && line["response"]["request_id"] == id.as_str()
        });
        answer.await["response"].clone()
    }

    /// Answers what the agent asks.
    pub(crate) async fn answer(&mut self, asked: &Value, response: Value) {
        let response =
            json!({ "subtype": "success", "request_id": asked["request_id"], "response": response });
        self.say(&json!({ "type": "control_response", "response": response })).await;
    }

    /// The next line like this; those before it are in `seen`.
    pub(crate) async fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = timeout(DEADLINE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no such line: {:#?}", self.seen)).unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended: {:#?}", self.seen));
            let line: Value = serde_json::from_str(&line).unwrap();
            self.seen.push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
    }

    pub(crate) async fn request(&mut self, subtype: &str) -> Value {
        self.until(|line| line["type"] == "control_request" && line["request"]["subtype"] == subtype).await
    }

    pub(crate) async fn result(&mut self) -> Value {
        self.until(|line| line["type"] == "result").await
    }

    /// Says no more, and gives the exit code.
    pub(crate) async fn end(mut self) -> (Option<i32>, Vec<Value>) {
        self.input = None;
        while let Ok(Ok(Some(line))) = timeout(DEADLINE, self.lines.next_line()).await {
            self.seen.push(serde_json::from_str(&line).unwrap());
        }
        let status = timeout(DEADLINE, self.child.wait()).await.must("it does not end").unwrap();
        (status.code(), self.seen)
    }
}

pub(crate) fn user(text: &str) -> Value {
    json!({ "type": "user", "message": { "role": "user", "content": text }, "parent_tool_use_id": null,
        "session_id": "" })
}

pub(crate) fn bash(command: &str) -> Turn {
    Turn::tool("Bash", json!({ "command": command }))
}

/// Waits until a file is there with something in it.
pub(crate) async fn until_written(path: &Path) -> String {
    let written = async {
        loop {
            match fs::read_to_string(path) {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(DEADLINE, written).await.must("nothing was written")
}

/// Waits until a process is gone.
pub(crate) async fn until_gone(pid: &str) {
    let gone = async {
        let alive =
            |stat: String| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        while fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(alive) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, gone).await.must("a process lives on");
}
