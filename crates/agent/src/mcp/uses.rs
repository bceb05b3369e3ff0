//! Uses of servers: tools, resources, prompts, and what people are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model_gateway::Tool;
use protocol::event::LiveDelta;
use rmcp::model::Prompt;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Facts};
use super::content::{Content, of_blocks, of_resource, of_result};
use super::error::ServerError;
use super::names::{PREFIX, full, plain};
use super::offer;
use super::servers::{Live, Servers};
use crate::outcome::Outcome;
use crate::stream_text::capped;
use crate::tools::Run;

/// How long a list of resources, one of them or a prompt may take.
const ASK: Duration = Duration::from_secs(60);

/// Resources that are listed.
const MAX_LISTED: usize = 200;

/// Resources that one prompt brings in.
const MAX_MENTIONS: usize = 5;

/// Bytes of progress that are shown of one call.
const MAX_LIVE: usize = 64 * 1024;

/// Characters of a prompt.
const MAX_PROMPT: usize = 100_000;

/// What is known of a call that a process began and did not live to see the end of.
const UNKNOWN: &str = "unknown: the server of this session died while this call ran and came back. What it does may \
                       have been done, or not: look before you call again.";

/// The tools of all servers, and those for resources where a server has some.
pub(crate) fn tools(servers: &Servers) -> Vec<Tool> {
    let mut tools = servers.tools();
    if servers.known().iter().any(|(_, facts)| facts.has_resources) {
        tools.extend(offer::of_resources());
    }
    tools
}

/// What the model is told of servers besides their tools.
pub(crate) fn notice(servers: &Servers) -> Option<String> {
    offer::notice(&servers.known(), &servers.failures())
}

/// The server of a tool, as hooks read it.
pub(crate) fn server_of(servers: &Servers, tool: &str) -> Option<Value> {
    let (live, _) =
        find(servers, tool, |facts| facts.tools.iter().map(|tool| tool.name.to_string()).collect())?;
    Some(json!({ "name": live.declared.name, "source": live.declared.source.name() }))
}

/// Whether a server says that a tool changes nothing. It may lie: this is for the order of calls, not for
/// permissions.
pub(crate) fn is_read_only(servers: &Servers, tool: &str) -> bool {
    servers.known().iter().any(|(server, facts)| {
        facts.tools.iter().any(|listed| {
            full(server, &listed.name).as_deref() == Some(tool)
                && listed.annotations.as_ref().is_some_and(|hints| hints.read_only_hint == Some(true))
        })
    })
}

/// How each server stands, for people.
pub(crate) fn describe(servers: &Servers) -> String {
    if servers.is_empty() {
        return "There are no MCP servers: neither `.mcp.json` of the repository nor the operator names one."
            .into();
    }
    let mut text = String::from("**MCP servers**\n\n| server | |\n|---|---|\n");
    for live in &servers.all {
        let words = live.words().replace('|', "\\|");
        text.push_str(&format!("| {} ({}) | {words} |\n", live.declared.name, live.declared.source.name()));
    }
    let prompts: Vec<String> =
        prompts(servers).into_iter().map(|(name, about)| format!("\n- `/{name}`: {about}")).collect();
    if !prompts.is_empty() {
        text.push_str(&format!("\nTheir prompts:\n{}", prompts.concat()));
    }
    text
}

/// Commands that are prompts of servers, and what they are about.
pub(crate) fn prompts(servers: &Servers) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (server, facts) in servers.known() {
        for prompt in &facts.prompts {
            let hints: Vec<String> = prompt
                .arguments
                .iter()
                .flatten()
                .map(|argument| format!("[{}]", plain(&argument.name, 40)))
                .collect();
            let about = plain(prompt.description.as_deref().unwrap_or("a prompt of the server"), 200);
            all.extend(full(server, &prompt.name).map(|name| (name, format!("{about} {}", hints.join(" ")))));
        }
    }
    all
}

/// The server and the item of a full name.
fn find<'a>(
    servers: &'a Servers,
    name: &str,
    items: impl Fn(&Facts) -> Vec<String>,
) -> Option<(&'a Arc<Live>, String)> {
    if !name.starts_with(PREFIX) {
        return None;
    }
    servers.known().into_iter().find_map(|(server, facts)| {
        let item = items(&facts).into_iter().find(|item| full(server, item).as_deref() == Some(name))?;
        Some((servers.find(server)?, item))
    })
}

/// Calls a tool of a server.
pub(crate) async fn call(name: &str, input: &Value, with: Run<'_>) -> Outcome {
    let servers = &*with.bench.servers;
    let tools = |facts: &Facts| facts.tools.iter().map(|tool| tool.name.to_string()).collect();
    let Some((live, tool)) = find(servers, name, tools) else {
        return Outcome::refused(format!("there is no tool named `{name}`"));
    };
    if with.resumed {
        return Outcome::failed(UNKNOWN);
    }
    let Some(arguments) = input.as_object() else {
        return Outcome::refused(format!("the input of {name} is no JSON object"));
    };
    let (connection, again) = match connect(live, with.stop).await {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let shown = AtomicUsize::new(0);
    let progress = |text: String| {
        if shown.fetch_add(text.len(), Ordering::Relaxed) < MAX_LIVE {
            with.port.live(LiveDelta::ToolOutput { call: with.id.to_owned(), text });
        }
    };
    let called =
        connection.call((&tool, with.id), arguments.clone(), live.call_limit(), &progress, with.stop);
    let mut outcome = match called.await {
        Ok(result) => {
            live.worked();
            let is_error = result.is_error == Some(true);
            Outcome { is_error, ..outcome(of_result(&result), servers, with).await }
        }
        Err(error) => failed(live, &error),
    };
    if again {
        outcome
            .content
            .push_str("\n[the server was started again for this call; what it remembered is gone]");
    }
    outcome.detail["mcp"] = json!({ "server": live.declared.name, "tool": tool });
    outcome
}

impl Servers {
    /// Asks a tool of a server something on behalf of the driver: the text of its answer.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn ask_tool(
        &self,
        name: &str,
        input: Map<String, Value>,
        stop: &CancellationToken,
    ) -> Result<String, String> {
        let tools = |facts: &Facts| facts.tools.iter().map(|tool| tool.name.to_string()).collect();
        let (live, tool) =
            find(self, name, tools).ok_or_else(|| format!("there is no tool named `{name}`"))?;
        let (connection, _) = live.connection().await?;
        let called = connection.call((&tool, ""), input, live.call_limit(), &|_| {}, stop).await;
        let result = called.map_err(|error| error.to_string())?;
        live.worked();
        Ok(of_result(&result).text)
    }
}

async fn connect(live: &Arc<Live>, stop: &CancellationToken) -> Result<(Arc<Connection>, bool), Outcome> {
    match stop.run_until_cancelled(live.connection()).await {
        None => Err(Outcome::failed(ServerError::Stopped.to_string())),
        Some(Ok(connected)) => Ok(connected),
        Some(Err(why)) => {
            let name = &live.declared.name;
            Err(Outcome::failed(format!("the MCP server {name} cannot be used: {why}. Go on without it.")))
        }
    }
}

fn failed(live: &Live, error: &ServerError) -> Outcome {
    let name = &live.declared.name;
    Outcome {
        detail: json!({ "interrupted": *error == ServerError::Stopped }),
        ..Outcome::failed(match error {
            ServerError::Answered(words) => words.clone(),
            ServerError::Stopped => error.to_string(),
            error => format!("{error} (MCP server {name}). What the call does may have been done, or not."),
        })
    }
}

/// A result that is too long is kept whole in a file.
async fn outcome(content: Content, servers: &Servers, with: Run<'_>) -> Outcome {
    let most = servers.limits.map_or(0, |limits| limits.output);
    let mut outcome = Outcome { detail: json!({}), ..Outcome::default() };
    let mut body = capped(&content.text, most, "");
    if body.left_out > 0 {
        let file = with.bench.scratch_file(with.id);
        if with.bench.hands.write_file(&file, content.text.as_bytes()).await.is_ok() {
            body = capped(&content.text, most, &format!("; the whole result is in {file}"));
        }
        outcome.full_output = Some((content.text.into_bytes(), false));
    }
    outcome.content = if body.text.trim().is_empty() { "(the tool said nothing)".into() } else { body.text };
    if !content.images.is_empty() {
        outcome.detail["images"] = json!(content.images);
    }
    outcome
}

/// Lists resources of one server, or of all.
pub(crate) async fn list_resources(server: Option<&str>, with: Run<'_>) -> Outcome {
    let servers = &*with.bench.servers;
    let chosen: Vec<&Arc<Live>> = match server {
        Some(name) => match servers.find(name) {
            Some(live) => vec![live],
            None => return Outcome::refused(format!("there is no MCP server `{name}`")),
        },
        None => {
            let known = servers.known();
            let with_some = known.iter().filter(|(_, facts)| facts.has_resources);
            with_some.filter_map(|(name, _)| servers.find(name)).collect()
        }
    };
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for live in chosen {
        let (connection, _) = match connect(live, with.stop).await {
            Ok(connected) => connected,
            Err(outcome) => {
                wrong.push(outcome.content);
                continue;
            }
        };
        match with.stop.run_until_cancelled(connection.resources(ASK)).await {
            None => return Outcome::failed(ServerError::Stopped.to_string()),
            Some(Err(error)) => wrong.push(failed(live, &error).content),
            Some(Ok(listed)) => {
                let name = &live.declared.name;
                lines.extend(listed.iter().take(MAX_LISTED).map(|resource| {
                    json!({ "server": name, "uri": resource.uri, "name": resource.name,
                        "mimeType": resource.mime_type,
                        "description": resource.description.as_deref().map(|text| plain(text, 300)) })
                    .to_string()
                }));
                if listed.len() > MAX_LISTED {
                    lines.push(format!("[{} more of {name} are not listed]", listed.len() - MAX_LISTED));
                }
            }
        }
    }
    if lines.is_empty() && wrong.is_empty() {
        return Outcome::ok("There are no resources.", json!({}));
    }
    let is_error = lines.is_empty();
    let text = lines.into_iter().chain(wrong).collect::<Vec<_>>().join("\n");
    Outcome { is_error, ..outcome(Content { text, images: Vec::new() }, servers, with).await }
}

/// Reads a resource.
pub(crate) async fn read_resource(server: &str, uri: &str, with: Run<'_>) -> Outcome {
    let servers = &*with.bench.servers;
    let Some(live) = servers.find(server) else {
        return Outcome::refused(format!("there is no MCP server `{server}`"));
    };
    let (connection, _) = match connect(live, with.stop).await {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    match with.stop.run_until_cancelled(connection.read(uri, ASK)).await {
        None => Outcome::failed(ServerError::Stopped.to_string()),
        Some(Err(error)) => failed(live, &error),
        Some(Ok(read)) => outcome(of_resource(&read.contents), servers, with).await,
    }
}

/// The resources that a prompt mentions as `@server:uri`: server and address.
pub(crate) fn mentions(servers: &Servers, text: &str) -> Vec<(String, String)> {
    let mention = |word: &str| {
        let (server, uri) = word.strip_prefix('@')?.split_once(':')?;
        let uri = uri.trim_end_matches(['.', ',', ';', ')', '"', '\'', '?', '!']);
        let live = servers.find(server)?;
        (!uri.is_empty()).then(|| (live.declared.name.clone(), uri.to_owned()))
    };
    let mut found: Vec<(String, String)> = Vec::new();
    for mentioned in text.split_whitespace().filter_map(mention) {
        if found.len() < MAX_MENTIONS && !found.contains(&mentioned) {
            found.push(mentioned);
        }
    }
    found
}

/// The text of a server's prompt for a command, where the command is one; or why there is none.
pub(crate) async fn prompt(
    servers: &Servers,
    name: &str,
    words: &str,
    stop: &CancellationToken,
) -> Option<Result<String, String>> {
    let prompts = |facts: &Facts| facts.prompts.iter().map(|prompt| prompt.name.clone()).collect();
    let (live, prompt) = find(servers, name, prompts)?;
    let known = servers.known();
    let (_, facts) = known.iter().find(|(server, _)| *server == live.declared.name)?;
    let listed = facts.prompts.iter().find(|listed| listed.name == prompt)?;
    let arguments = match arguments(listed, words) {
        Ok(arguments) => arguments,
        Err(why) => return Some(Err(why)),
    };
    let asked = async {
        let (connection, _) = live.connection().await?;
        connection.prompt(&prompt, arguments, ASK).await.map_err(|error| error.to_string())
    };
    let got = match stop.run_until_cancelled(asked).await? {
        Ok(got) => got,
        Err(why) => {
            return Some(Err(format!(
                "the prompt of the MCP server {} cannot be had: {why}",
                live.declared.name
            )));
        }
    };
    let text = of_blocks(got.messages.iter().map(|message| &message.content)).text;
    match text.trim() {
        "" => Some(Err("the prompt is empty".into())),
        text => Some(Ok(capped(text, MAX_PROMPT, "").text)),
    }
}

/// Words of a person for what a prompt takes, in its order; the last one takes all that is left.
fn arguments(prompt: &Prompt, words: &str) -> Result<Map<String, Value>, String> {
    let takes = prompt.arguments.as_deref().unwrap_or_default();
    let mut arguments = Map::new();
    let mut rest = words.trim();
    for (at, argument) in takes.iter().enumerate() {
        let end = match at + 1 == takes.len() {
            true => rest.len(),
            false => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, left) = rest.split_at(end);
        rest = left.trim_start();
        if !word.is_empty() {
            arguments.insert(argument.name.clone(), word.into());
        } else if argument.required == Some(true) {
            let names: Vec<String> = takes.iter().map(|argument| plain(&argument.name, 40)).collect();
            return Err(format!("the prompt takes: {}", names.join(" ")));
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_in_order() {
        let prompt: Prompt = serde_json::from_value(json!({ "name": "p", "arguments": [
            { "name": "city", "required": true }, { "name": "rest" }] }))
        .unwrap();
        for (words, taken) in [
            ("Bonn", json!({ "city": "Bonn" })),
            ("Bonn  and more words", json!({ "city": "Bonn", "rest": "and more words" })),
        ] {
            assert_eq!(Value::Object(arguments(&prompt, words).unwrap()), taken);
        }
        assert_eq!(arguments(&prompt, " ").unwrap_err(), "the prompt takes: city rest");
    }
}
