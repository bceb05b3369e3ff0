//! A request, and its bytes.
//!
//! ```text
//!  model · max_tokens · stream · thinking │ tools … T* │ system … S* │ messages … U* … U*
//!                                                * = cache breakpoint, four at most
//! ```
//!
//! The body is a pure function of the request: fixed order, no clock, no random part. So the bytes
//! before the newest message are the same from request to request, which is what prompt caches and
//! bound thinking blocks need. The breakpoints stand on the last tool, the last system block and the
//! last two user messages: the older of these two is where the previous request wrote its cache.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::config::{ModelConfig, Thinking};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person, and results of tools.
    User,
    /// The model.
    Assistant,
}

/// One message; `content` holds blocks as the API takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Blocks in order; never empty in a request.
    pub content: Vec<Value>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of its input.
    pub input_schema: Value,
}

/// What is asked of the model.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Text blocks of the system prompt.
    pub system: &'a [String],
    /// The tools, always in the same order.
    pub tools: &'a [Tool],
    /// The conversation; roles alternate, the first and the last are the user's.
    pub messages: &'a [Message],
}

impl Request<'_> {
    /// The body of the POST.
    pub fn body(&self, config: &ModelConfig) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Body { config, request: self })
    }
}

struct Body<'a> {
    config: &'a ModelConfig,
    request: &'a Request<'a>,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("model", &self.config.model)?;
        body.serialize_entry("max_tokens", &self.config.max_tokens)?;
        body.serialize_entry("stream", &true)?;
        if self.config.thinking == Thinking::Adaptive {
            body.serialize_entry("thinking", &json!({ "type": "adaptive", "display": "summarized" }))?;
        }
        if !self.request.tools.is_empty() {
            body.serialize_entry("tools", &Tools(self.request.tools))?;
        }
        if !self.request.system.is_empty() {
            body.serialize_entry("system", &System(self.request.system))?;
        }
        body.serialize_entry("messages", &Messages(self.request.messages))?;
        body.end()
    }
}

const BREAKPOINT: (&str, BreakpointKind) = ("cache_control", BreakpointKind { kind: "ephemeral" });

#[derive(Serialize)]
struct BreakpointKind {
    #[serde(rename = "type")]
    kind: &'static str,
}

struct Tools<'a>(&'a [Tool]);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (index, tool) in self.0.iter().enumerate() {
            let mark = index + 1 == self.0.len();
            list.serialize_element(&MarkedTool { tool, mark })?;
        }
        list.end()
    }
}

struct MarkedTool<'a> {
    tool: &'a Tool,
    mark: bool,
}

impl Serialize for MarkedTool<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.tool.name)?;
        map.serialize_entry("description", &self.tool.description)?;
        map.serialize_entry("input_schema", &self.tool.input_schema)?;
        if self.mark {
            map.serialize_entry(BREAKPOINT.0, &BREAKPOINT.1)?;
        }
        map.end()
    }
}

struct System<'a>(&'a [String]);

impl Serialize for System<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (index, text) in self.0.iter().enumerate() {
            let block = json!({ "type": "text", "text": text });
            list.serialize_element(&MarkedBlock { block: &block, mark: index + 1 == self.0.len() })?;
        }
        list.end()
    }
}

struct Messages<'a>(&'a [Message]);

impl Messages<'_> {
    /// The messages whose last block carries a breakpoint: the last two of the user that end in a
    /// block which can.
    fn marked(&self) -> Vec<usize> {
        let cacheable = |message: &Message| {
            message.role == Role::User
                && message.content.last().is_some_and(|block| {
                    matches!(block["type"].as_str(), Some("text" | "tool_result" | "image" | "document"))
                })
        };
        let user = self.0.iter().enumerate().rev().filter(|(_, message)| cacheable(message));
        user.take(2).map(|(index, _)| index).collect()
    }
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let marked = self.marked();
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (index, message) in self.0.iter().enumerate() {
            list.serialize_element(&MarkedMessage { message, mark: marked.contains(&index) })?;
        }
        list.end()
    }
}

struct MarkedMessage<'a> {
    message: &'a Message,
    mark: bool,
}

impl Serialize for MarkedMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let last = self.message.content.len();
        let blocks: Vec<_> = self
            .message
            .content
            .iter()
            .enumerate()
            .map(|(index, block)| MarkedBlock { block, mark: self.mark && index + 1 == last })
            .collect();
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("role", &self.message.role)?;
        map.serialize_entry("content", &blocks)?;
        map.end()
    }
}

struct MarkedBlock<'a> {
    block: &'a Value,
    mark: bool,
}

impl Serialize for MarkedBlock<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (true, Value::Object(fields)) = (self.mark, self.block) else {
            return self.block.serialize(serializer);
        };
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in fields {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry(BREAKPOINT.0, &BREAKPOINT.1)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, Secret};

    fn user(text: &str) -> Message {
        Message { role: Role::User, content: vec![json!({ "type": "text", "text": text })] }
    }

    fn assistant(text: &str) -> Message {
        Message { role: Role::Assistant, content: vec![json!({ "type": "text", "text": text })] }
    }

    #[test]
    fn breakpoints_stand_on_the_last_tool_the_last_system_block_and_two_user_messages() {
        let config = ModelConfig::new("http://h", Auth::ApiKey(Secret::new("k")), "m");
        let tools = ["A", "B"].map(|name| Tool {
            name: name.into(),
            description: "d".into(),
            input_schema: json!({ "type": "object" }),
        });
        let messages = [user("1"), assistant("2"), user("3"), assistant("4"), user("5")];
        let system = ["s1".to_owned(), "s2".to_owned()];
        let request = Request { system: &system, tools: &tools, messages: &messages };
        let text = String::from_utf8(request.body(&config).unwrap()).unwrap();
        // The order of keys inside a block is serde_json's own affair.
        let block = |text: &str| json!({ "type": "text", "text": text }).to_string();
        let marked = |text: &str| {
            let block = block(text);
            format!(r#"{},"cache_control":{{"type":"ephemeral"}}}}"#, &block[..block.len() - 1])
        };
        let expected = format!(
            concat!(
                r#"{{"model":"m","max_tokens":32000,"stream":true,"tools":["#,
                r#"{{"name":"A","description":"d","input_schema":{{"type":"object"}}}},"#,
                r#"{{"name":"B","description":"d","input_schema":{{"type":"object"}},"#,
                r#""cache_control":{{"type":"ephemeral"}}}}],"system":[{},{}],"#,
                r#""messages":[{{"role":"user","content":[{}]}},{{"role":"assistant","content":[{}]}},"#,
                r#"{{"role":"user","content":[{}]}},{{"role":"assistant","content":[{}]}},"#,
                r#"{{"role":"user","content":[{}]}}]}}"#,
            ),
            block("s1"),
            marked("s2"),
            block("1"),
            block("2"),
            marked("3"),
            block("4"),
            marked("5"),
        );
        assert_eq!(text, expected);
    }
}
