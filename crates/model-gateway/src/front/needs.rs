//! What a request body asks of the API beyond an answer to its words.
//!
//! ```text
//!  body ─┬─ a field that is not known ───────────────────────────────────▶ the field's name
//!        ├─ tools[].type       known: nothing · else ────────────────────▶ the tool's family
//!        └─ system, messages[].content[] ─┬─ type that is not known ─────▶ the block's type
//!                                         └─ source ─ url, file, other ──▶ url_sources, file_sources, …
//! ```
//!
//! The body is walked once, and nothing of it is kept: a hostile one costs no memory. What two readers
//! could take for different things (a field twice, a field in other letters) is refused.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

/// The fields of a body that have an answer to these words for their only purpose.
const PLAIN_FIELDS: [&str; 17] = [
    "model",
    "stream",
    "max_tokens",
    "metadata",
    "stop_sequences",
    "temperature",
    "top_k",
    "top_p",
    "thinking",
    "tool_choice",
    "service_tier",
    "speed",
    "inference_geo",
    "cache_control",
    "context_management",
    "output_config",
    "output_format",
];

/// Tools that the client runs itself, and the search among tools that are in the body anyway.
const PLAIN_TOOLS: [&str; 7] = [
    "custom",
    "bash",
    "text_editor",
    "computer",
    "memory",
    "tool_search_tool_regex",
    "tool_search_tool_bm25",
];

/// Blocks that hold everything that they are about.
const PLAIN_BLOCKS: [&str; 12] = [
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "tool_reference",
    "server_tool_use",
    "tool_search_tool_result",
    "compaction",
];

/// Blocks and tools that belong to what has another name.
const PARTS_OF: [(&str, &str); 8] = [
    ("mcp_toolset", "mcp_servers"),
    ("mcp_tool_use", "mcp_servers"),
    ("mcp_tool_result", "mcp_servers"),
    ("web_search_tool_result", "web_search"),
    ("web_fetch_tool_result", "web_fetch"),
    ("code_execution_tool_result", "code_execution"),
    ("bash_code_execution_tool_result", "code_execution"),
    ("text_editor_code_execution_tool_result", "code_execution"),
];

/// Sources that are in the body itself.
const PLAIN_SOURCES: [&str; 3] = ["base64", "text", "content"];

/// The most needs that are told of one body.
const MOST: usize = 8;

/// The longest word that is told.
const LONGEST: usize = 80;

/// What an operator allows, by the words that refusals name: `web_search`, `web_fetch`, `code_execution`,
/// `mcp_servers`, `container`, `container_upload`, `url_sources`, `file_sources`, and whatever the API
/// has that this version does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(BTreeSet<String>);

impl FromIterator<String> for Allowed {
    fn from_iter<T: IntoIterator<Item = String>>(words: T) -> Self {
        Self(words.into_iter().collect())
    }
}

/// Something that an operator has to allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    what: &'static str,
    word: String,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.what, self.word)
    }
}

/// What is known of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The model that it names.
    pub(super) model: String,
    needs: BTreeSet<Need>,
}

impl Asked {
    /// Walks a body.
    pub(super) fn of(body: &[u8]) -> Result<Self, serde_json::Error> {
        let mut asked = Self::default();
        let mut reader = serde_json::Deserializer::from_slice(body);
        Look { part: Part::Body, asked: &mut asked }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(asked)
    }

    /// What is needed and not allowed.
    pub(super) fn beyond(self, allowed: &Allowed) -> Vec<Need> {
        self.needs.into_iter().filter(|need| !allowed.0.contains(&need.word)).collect()
    }

    fn need(&mut self, what: &'static str, word: &str) {
        let word = PARTS_OF.iter().find(|(part, _)| *part == word).map_or(word, |(_, whole)| whole);
        if self.needs.len() < MOST {
            let word = word.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
            self.needs.insert(Need { what, word });
        }
    }
}

/// Where in a body something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Body,
    Tools,
    Messages,
    Content,
    Source,
}

impl Part {
    /// The fields of an object here that mean something.
    fn watched(self) -> &'static [&'static str] {
        match self {
            Self::Body => &["tools", "messages", "system"],
            Self::Tools => &["type"],
            Self::Messages => &["content"],
            Self::Content => &["type", "source", "content"],
            Self::Source => &["type", "content", "url", "file_id"],
        }
    }

    /// What stands in a field.
    fn below(self, field: &str) -> Option<Self> {
        match (self, field) {
            (Self::Body, "tools") => Some(Self::Tools),
            (Self::Body, "messages") => Some(Self::Messages),
            (Self::Body, "system") | (Self::Messages | Self::Content | Self::Source, "content") => {
                Some(Self::Content)
            }
            (Self::Content, "source") => Some(Self::Source),
            _ => None,
        }
    }
}

struct Look<'a> {
    part: Part,
    asked: &'a mut Asked,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.part == Part::Body { "a JSON object" } else { "JSON" })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.value(Unexpected::Str(text))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.value(Unexpected::Unit)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.value(Unexpected::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.value(Unexpected::Signed(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.value(Unexpected::Unsigned(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.value(Unexpected::Float(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.part == Part::Body {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        while list.next_element_seed(Look { part: self.part, asked: self.asked })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Look { part, asked } = self;
        let mut seen: Vec<&'static str> = Vec::new();
        let mut kind = None;
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            let plain: &[&str] = if part == Part::Body { &PLAIN_FIELDS } else { &[] };
            let folded = field.to_uppercase().to_lowercase();
            let Some(known) = part.watched().iter().chain(plain).find(|known| **known == folded) else {
                if part == Part::Body {
                    asked.need("the field", &field);
                }
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if *known != field {
                return Err(A::Error::custom(format!("`{known}` is written in other letters")));
            }
            if seen.contains(known) {
                return Err(A::Error::custom(format!("`{known}` is there twice")));
            }
            seen.push(known);
            match (part.below(known), *known) {
                (Some(part), _) => map.next_value_seed(Look { part, asked })?,
                (None, "type") => kind = Some(map.next_value_seed(Word)?),
                (None, "model") if part == Part::Body => {
                    asked.model = map.next_value_seed(Word)?;
                }
                (None, "url") => asked.source(map.next_value::<IgnoredAny>().map(|_| "url")?),
                (None, "file_id") => asked.source(map.next_value::<IgnoredAny>().map(|_| "file")?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        asked.object(part, kind.as_deref());
        Ok(())
    }
}

impl Look<'_> {
    /// A value without parts: anywhere but for the whole it means nothing to us.
    fn value<E: serde::de::Error>(self, value: Unexpected<'_>) -> Result<(), E> {
        if self.part == Part::Body { Err(E::invalid_type(value, &self)) } else { Ok(()) }
    }
}

impl Asked {
    /// An object is over.
    fn object(&mut self, part: Part, kind: Option<&str>) {
        match part {
            Part::Body | Part::Messages => {}
            Part::Tools => {
                // What has no type is the client's own.
                let family = family(kind.unwrap_or("custom"));
                if !PLAIN_TOOLS.contains(&family) {
                    self.need("the tool", family);
                }
            }
            Part::Content => {
                let word = kind.unwrap_or("untyped");
                if !PLAIN_BLOCKS.contains(&word) {
                    self.need("the block", word);
                }
            }
            Part::Source => {
                let word = kind.unwrap_or("untyped");
                if !PLAIN_SOURCES.contains(&word) {
                    self.source(word);
                }
            }
        }
    }

    fn source(&mut self, kind: &str) {
        self.need("sources of the kind", &format!("{kind}_sources"));
    }
}

/// A type without the date of its version.
fn family(kind: &str) -> &str {
    match kind.rsplit_once('_') {
        Some((family, date)) if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) => family,
        _ => kind,
    }
}

/// The beginning of a text.
struct Word;

impl<'de> DeserializeSeed<'de> for Word {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<String, D::Error> {
        value.deserialize_str(self)
    }
}

impl Visitor<'_> for Word {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.chars().take(LONGEST).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn needs(body: &Value) -> Vec<String> {
        let asked = Asked::of(body.to_string().as_bytes()).unwrap();
        asked.needs.into_iter().map(|need| need.word).collect()
    }

    /// A body with this in one message.
    fn with_block(block: &Value) -> Value {
        json!({ "model": "m", "messages": [{ "role": "user", "content": [block] }] })
    }

    #[test]
    fn what_agents_send_needs_nothing() {
        let body = json!({
            "model": "m", "max_tokens": 9, "stream": true, "metadata": { "user_id": "x" },
            "thinking": { "type": "adaptive" }, "context_management": { "edits": [] },
            "output_config": { "effort": "high" }, "tool_choice": { "type": "auto" },
            "system": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }],
            "tools": [
                { "name": "Read", "input_schema": { "type": "object", "properties": { "Type": {}, "url": {} } } },
                { "type": "custom", "name": "x", "input_schema": {} },
                { "type": "bash_20250124", "name": "bash" },
                { "type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex" },
            ],
            "messages": [
                { "role": "user", "content": "words" },
                { "role": "system", "content": "later words" },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "t", "signature": "s" },
                    { "type": "tool_use", "id": "1", "name": "Read",
                      "input": { "type": "url", "source": { "type": "url", "url": "http://x" } } },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "1", "content": [
                        { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "" } },
                    ] },
                    { "type": "document", "source": { "type": "content", "content": [{ "type": "text", "text": "" }] } },
                    { "type": "search_result", "source": "https://where.it.is", "title": "t", "content": [] },
                ] },
            ],
        });
        assert_eq!(needs(&body), Vec::<String>::new());
        assert_eq!(Asked::of(body.to_string().as_bytes()).unwrap().model, "m");
    }

    #[test]
    fn what_reaches_out_is_named_wherever_it_stands() {
        let url = json!({ "type": "url", "url": "http://evil.test/" });
        let image = json!({ "type": "image", "source": url });
        for (body, wanted) in [
            (json!({ "mcp_servers": [] }), "mcp_servers"),
            (json!({ "container": "c" }), "container"),
            (json!({ "next_thing": 1 }), "next_thing"),
            (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "web_search"),
            (json!({ "tools": [{ "type": "web_fetch_20250910" }] }), "web_fetch"),
            (json!({ "tools": [{ "type": "code_execution_20250825" }] }), "code_execution"),
            (json!({ "tools": [{ "type": "mcp_toolset" }] }), "mcp_servers"),
            (json!({ "tools": [[{ "type": "advisor_20260301" }]] }), "advisor"),
            (json!({ "tools": { "type": "web_search" } }), "web_search"),
            (json!({ "system": [image] }), "url_sources"),
            (json!({ "messages": { "content": image } }), "url_sources"),
            (with_block(&image), "url_sources"),
            (
                with_block(&json!({ "type": "document", "source": { "type": "file", "file_id": "f" } })),
                "file_sources",
            ),
            (
                with_block(&json!({ "type": "image", "source": { "type": "base64", "url": "http://x" } })),
                "url_sources",
            ),
            (with_block(&json!({ "type": "image", "source": { "type": "s3" } })), "s3_sources"),
            (with_block(&json!({ "type": "image", "source": {} })), "untyped_sources"),
            (with_block(&json!({ "type": "tool_result", "content": [image] })), "url_sources"),
            (
                with_block(
                    &json!({ "type": "tool_result", "content": [{ "type": "tool_result", "content": image }] }),
                ),
                "url_sources",
            ),
            (
                with_block(
                    &json!({ "type": "document", "source": { "type": "content", "content": [image] } }),
                ),
                "url_sources",
            ),
            (with_block(&json!({ "type": "container_upload", "file_id": "f" })), "container_upload"),
            (
                with_block(&json!({ "type": "web_fetch_tool_result", "content": {"type": "text"} })),
                "web_fetch",
            ),
            (with_block(&json!({ "type": "video" })), "video"),
            (with_block(&json!({ "text": "without a type" })), "untyped"),
        ] {
            assert!(needs(&body).iter().any(|word| word == wanted), "{body}: {:?}", needs(&body));
            let allowed: Allowed = needs(&body).into_iter().collect();
            let again = Asked::of(body.to_string().as_bytes()).unwrap();
            assert_eq!(again.beyond(&allowed), []);
        }
    }

    #[test]
    fn what_two_readers_take_differently_is_refused() {
        for body in [
            r#"{"tools":[],"tools":[{"type":"web_search"}]}"#,
            r#"{"tools":[{"type":"custom","type":"web_search"}]}"#,
            r#"{"tools":[{"Type":"web_search"}]}"#,
            r#"{"Tools":[{"type":"web_search"}]}"#,
            r#"{"tools":[],"tools":[]}"#,
            r#"{"toolſ":[]}"#,
            r#"{"tools":[{"type":7}]}"#,
            r#"{"messages":[{"content":[{"type":"image","SOURCE":{"type":"url"}}]}]}"#,
            r#"{"model":"a"} {"model":"b"}"#,
            r#"{"model":"a",}"#,
            "[]",
            "7",
            "\"text\"",
            "",
        ] {
            assert!(Asked::of(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{{\"messages\":{}", "[".repeat(100_000));
        assert!(Asked::of(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_nesting_hides_a_url(depth in 0_usize..20, in_list in any::<bool>()) {
            let mut block = json!({ "type": "image", "source": { "type": "url", "url": "http://x" } });
            for _ in 0..depth {
                let content = if in_list { json!([{ "type": "text", "text": "" }, block]) } else { block };
                block = json!({ "content": content, "type": "tool_result" });
            }
            prop_assert_eq!(needs(&with_block(&block)), ["url_sources"]);
        }

        #[test]
        fn no_bytes_cost_more_than_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(asked) = Asked::of(&bytes) {
                prop_assert!(asked.needs.len() <= MOST);
            }
        }
    }
}
