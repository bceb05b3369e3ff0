//! What `.mcp.json` and `managed-mcp.json` say.
//!
//! ```text
//!  managed-mcp.json   the operator's     ─┐  of two with one name the operator's counts, whole
//!  .mcp.json          the repository's   ─┴─▶ servers, and what is wrong with them
//! ```
//!
//! Variables are filled in later: what they are is known when a sandbox is there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::names::plain;

/// Servers of one session.
const MAX_SERVERS: usize = 50;

/// Characters of a server's name.
const MAX_NAME: usize = 64;

/// Arguments, variables or headers of one server.
const MAX_FIELDS: usize = 200;

/// Names that the platform keeps for itself.
const RESERVED: [&str; 3] = ["workspace", "claude-in-chrome", "computer-use"];

/// Who says that there is a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Operator,
    Repository,
    /// The person, for this run.
    Person,
}

impl Source {
    /// As hooks read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Operator => "managed",
            Self::Repository => "project",
            Self::Person => "dynamic",
        }
    }
}

/// A server as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) way: Way,
    /// How long one of its calls may take.
    pub(crate) timeout: Option<Duration>,
}

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// A program in the sandbox, over its standard streams.
    Stdio { command: String, args: Vec<String>, env: BTreeMap<String, String> },
    /// Streamable HTTP.
    Http { url: String, headers: BTreeMap<String, String> },
    /// It lives with the agent's driver.
    Driver,
}

/// The servers of a session, by name.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    pub(crate) servers: Vec<Server>,
}

impl Declared {
    /// Reads both files; what is wrong with the repository's is told and left out, server by server. `only` leaves
    /// out the repository's whole.
    ///
    /// # Errors
    ///
    /// What is wrong with the operator's.
    pub fn read(
        repository: Option<&[u8]>,
        operator: Option<&[u8]>,
        only: bool,
    ) -> Result<(Self, Vec<String>), String> {
        let (mut all, mut remarks) = (BTreeMap::new(), Vec::new());
        if let Some(bytes) = operator {
            let name = "managed-mcp.json";
            let unusable = |why: String| format!("the operator's {name} cannot be used: {why}");
            for (server, read) in servers(bytes, Source::Operator).map_err(unusable)? {
                let read = read.map_err(|why| unusable(format!("the server `{server}`: {why}")))?;
                all.insert(server, read);
            }
        }
        if let Some(bytes) = repository.filter(|_| !only) {
            match servers(bytes, Source::Repository) {
                Ok(found) => {
                    for (server, read) in found {
                        match read {
                            Ok(_) if all.len() >= MAX_SERVERS => {
                                remarks.push(format!(
                                    ".mcp.json: the server `{server}` is one too many; left out"
                                ));
                            }
                            Ok(read) => drop(all.entry(server).or_insert(read)),
                            Err(why) => {
                                remarks.push(format!(".mcp.json: the server `{server}` is left out: {why}"));
                            }
                        }
                    }
                }
                Err(why) => remarks.push(format!(".mcp.json: {why}; none of it is used")),
            }
        } else if repository.is_some() {
            remarks
                .push(".mcp.json: the operator's servers are the only ones here; none of it is used".into());
        }
        Ok((Self { servers: all.into_values().collect() }, remarks))
    }

    /// Adds what a person names for this run, over what there is but the operator's; what is wrong with it is an error.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        for (name, read) in servers(bytes, Source::Person)? {
            self.put(read.map_err(|why| format!("the server `{name}`: {why}"))?)?;
        }
        Ok(())
    }

    /// Adds the person's own, over the repository's of the same name only where they are `stronger`; what is wrong is
    /// told, server by server.
    pub fn add_own(&mut self, bytes: &[u8], stronger: bool) -> Vec<String> {
        let mut remarks = Vec::new();
        for (name, read) in servers(bytes, Source::Person).unwrap_or_default() {
            if !stronger && self.servers.iter().any(|other| other.name == name) {
                continue;
            }
            if let Err(why) = read.and_then(|server| self.put(server)) {
                remarks.push(format!("~/.claude.json: the server `{name}` is left out: {why}"));
            }
        }
        remarks
    }

    /// Adds one that lives with the agent's driver.
    ///
    /// # Errors
    ///
    /// When it cannot have its name.
    pub fn add_of_driver(&mut self, name: &str) -> Result<(), String> {
        let source = Source::Person;
        self.put(Server { name: checked(name)?, source, way: Way::Driver, timeout: None })
    }

    fn put(&mut self, server: Server) -> Result<(), String> {
        match self.servers.iter().position(|other| other.name == server.name) {
            Some(at) if self.servers[at].source == Source::Operator => {}
            Some(at) => self.servers[at] = server,
            None if self.servers.len() >= MAX_SERVERS => {
                return Err(format!("there are more than {MAX_SERVERS} servers"));
            }
            None => self.servers.push(server),
        }
        Ok(())
    }

    /// Leaves out what a repository names.
    pub fn without_repository(&mut self) {
        self.servers.retain(|server| server.source != Source::Repository);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

/// Name, and the server or what is wrong with it.
type Read = (String, Result<Server, String>);

fn servers(bytes: &[u8], source: Source) -> Result<Vec<Read>, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON ({error})"))?;
    let Some(object) = value.as_object() else { return Err("it is no JSON object".into()) };
    let Some(servers) = object.get("mcpServers") else { return Ok(Vec::new()) };
    let Some(servers) = servers.as_object() else { return Err("`mcpServers` is no object".into()) };
    let read = |(name, value): (&String, &Value)| (plain(name, 80), server(name, value, source));
    Ok(servers.iter().map(read).collect())
}

fn checked(name: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
        return Err(format!("a name has letters, digits, `-`, `_`, `.` and spaces, at most {MAX_NAME}"));
    }
    if RESERVED.contains(&name) {
        return Err("the name is reserved".into());
    }
    Ok(name.to_owned())
}

fn server(name: &str, value: &Value, source: Source) -> Result<Server, String> {
    let name = checked(name)?;
    let fields = value.as_object().ok_or("it is no object")?;
    let kind = match fields.get("type") {
        None => "stdio",
        Some(Value::String(kind)) => kind,
        Some(_) => return Err("`type` is no text".into()),
    };
    let way = match kind {
        "stdio" => stdio(fields)?,
        "http" | "streamable-http" => http(fields)?,
        // What lives with the driver of an agent is the driver's to name.
        "sdk" if source == Source::Person => Way::Driver,
        "sse" => return Err("the transport `sse` of the old protocol is not there; use `http`".into()),
        "ws" => return Err("the transport `ws` is not there; use `http`".into()),
        other => return Err(format!("the type `{}` is not known", plain(other, 40))),
    };
    let timeout = match fields.get("timeout") {
        None => None,
        Some(value) => match value.as_u64() {
            Some(milliseconds) if milliseconds > 0 => Some(Duration::from_millis(milliseconds)),
            _ => return Err("`timeout` is no number of milliseconds".into()),
        },
    };
    Ok(Server { name, source, way, timeout })
}

fn stdio(fields: &Map<String, Value>) -> Result<Way, String> {
    let Some(command) = fields.get("command") else {
        return Err(match fields.contains_key("url") {
            true => "it has a `url`, and needs `\"type\": \"http\"`".into(),
            false => "it has no `command`".into(),
        });
    };
    let command = command.as_str().filter(|text| !text.trim().is_empty()).ok_or("`command` is no text")?;
    let args = match fields.get("args") {
        None => Vec::new(),
        Some(Value::Array(args)) if args.len() <= MAX_FIELDS => {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            args.iter().map(text).collect::<Option<_>>().ok_or("`args` has an entry that is no text")?
        }
        Some(_) => return Err(format!("`args` is no list of at most {MAX_FIELDS} texts")),
    };
    Ok(Way::Stdio { command: command.to_owned(), args, env: texts(fields, "env")? })
}

fn http(fields: &Map<String, Value>) -> Result<Way, String> {
    let url = fields.get("url").and_then(Value::as_str).ok_or("it has no `url`")?;
    if fields.contains_key("headersHelper") {
        return Err("`headersHelper` is not there; use `headers`".into());
    }
    Ok(Way::Http { url: url.to_owned(), headers: texts(fields, "headers")? })
}

fn texts(fields: &Map<String, Value>, key: &str) -> Result<BTreeMap<String, String>, String> {
    let map = match fields.get(key) {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) if map.len() <= MAX_FIELDS => map,
        Some(_) => return Err(format!("`{key}` is no object of at most {MAX_FIELDS} texts")),
    };
    let text = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(|| format!("`{key}` has a value that is no text"))?;
        Ok((name.clone(), value.to_owned()))
    };
    map.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(repository: &Value) -> (Declared, Vec<String>) {
        Declared::read(Some(repository.to_string().as_bytes()), None, false).unwrap()
    }

    fn of_one(server: Value) -> Result<Way, String> {
        let (mut declared, mut remarks) = read(&json!({ "mcpServers": { "one": server } }));
        declared.servers.pop().map(|server| server.way).ok_or_else(|| remarks.pop().unwrap())
    }

    /// Section 8: the forms of an entry.
    #[test]
    fn entries_are_read_or_told_one_by_one() {
        let stdio = of_one(json!({ "command": "npx", "args": ["-y", "x"], "env": { "A": "b" } })).unwrap();
        let env = BTreeMap::from([("A".to_owned(), "b".to_owned())]);
        assert_eq!(stdio, Way::Stdio { command: "npx".into(), args: vec!["-y".into(), "x".into()], env });
        let http = of_one(json!({ "type": "http", "url": "https://a.org/mcp" })).unwrap();
        assert_eq!(http, Way::Http { url: "https://a.org/mcp".into(), headers: BTreeMap::new() });
        for (server, words) in [
            (json!({ "url": "https://a.org" }), "needs `\"type\": \"http\"`"),
            (json!({}), "no `command`"),
            (json!({ "command": " " }), "`command` is no text"),
            (json!({ "command": "x", "args": "y" }), "`args` is no list"),
            (json!({ "command": "x", "args": [5] }), "no text"),
            (json!({ "command": "x", "env": { "A": 5 } }), "no text"),
            (json!({ "command": "x", "timeout": -1 }), "`timeout`"),
            (json!({ "type": "sse", "url": "https://a.org" }), "`sse`"),
            (json!({ "type": "ws", "url": "wss://a.org" }), "`ws`"),
            (json!({ "type": "x" }), "is not known"),
            (json!({ "type": 5 }), "`type` is no text"),
            (json!({ "type": "http", "url": "https://a.org", "headersHelper": "x" }), "headersHelper"),
            (json!("x"), "no object"),
        ] {
            let told = of_one(server.clone()).unwrap_err();
            assert!(told.starts_with(".mcp.json: the server `one` is left out: "), "{told}");
            assert!(told.contains(words), "{server}: {told}");
        }
        let names = json!({ "mcpServers": { "computer-use": { "command": "x" }, "a/b": { "command": "x" },
            "": { "command": "x" }, "fine one.2": { "command": "x" } } });
        let (declared, remarks) = read(&names);
        assert_eq!((declared.servers.len(), remarks.len()), (1, 3), "{remarks:?}");
        for bytes in ["{", "[]", r#"{"mcpServers":[]}"#] {
            let (declared, remarks) = Declared::read(Some(bytes.as_bytes()), None, false).unwrap();
            assert_eq!((declared.is_empty(), remarks.len()), (true, 1), "{bytes}");
        }
        assert_eq!(read(&json!({})).1, Vec::<String>::new());
    }

    #[test]
    fn the_operators_entry_counts_whole_and_its_faults_close() {
        let of = |command: &str| json!({ "mcpServers": { "one": { "command": command } } }).to_string();
        let both = |only| Declared::read(Some(of("theirs").as_bytes()), Some(of("ours").as_bytes()), only);
        for only in [false, true] {
            let (declared, _) = both(only).unwrap();
            assert_eq!(declared.servers.len(), 1);
            assert_eq!(declared.servers[0].source, Source::Operator);
        }
        let more = json!({ "mcpServers": { "two": { "command": "x" } } }).to_string();
        for (only, count) in [(false, 2), (true, 1)] {
            let (declared, remarks) =
                Declared::read(Some(more.as_bytes()), Some(of("ours").as_bytes()), only).unwrap();
            assert_eq!((declared.servers.len(), remarks.len()), (count, usize::from(only)));
        }
        for bytes in ["{", r#"{"mcpServers":{"one":{}}}"#] {
            let refused = Declared::read(None, Some(bytes.as_bytes()), false).unwrap_err();
            assert!(refused.starts_with("the operator's managed-mcp.json cannot be used: "), "{refused}");
        }
    }
}
