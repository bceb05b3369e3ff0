//! Resources of MCP servers that a prompt mentions, as `@server:uri`.
//!
//! ```text
//!  prompt ─ @docs:file:///guide ─▶ may it be read? ─▶ the server ─▶ the model is told, behind the prompt
//! ```

use protocol::agent_port::PortError;
use protocol::event::EventBody;
use serde_json::json;

use crate::agent::PatchyardAgent;
use crate::compact::With;
use crate::gate::{Moment, Wish};
use crate::mcp;
use crate::tools::Run;
use crate::turn::append;

/// Brings in what a prompt mentions.
pub(crate) async fn bring(agent: &mut PatchyardAgent, text: &str, with: With<'_>) -> Result<(), PortError> {
    let With { input, port, stop } = with;
    let mut bodies = Vec::new();
    for (server, uri) in mcp::mentions(&agent.config.servers, text) {
        let bench = &agent.bench;
        let moment = Moment { bench, port, stop, prompt: input.prompt, resumed: false };
        let asked = json!({ "server": server, "uri": uri });
        let title = format!("{server}: {uri}");
        let wish =
            Wish { call: "", tool: "ReadMcpResourceTool", title: &title, input: &asked, read_only: true };
        let outcome = match agent.gate.pass(wish, None, moment).await? {
            Ok(_) => {
                mcp::read_resource(&server, &uri, Run { bench, port, id: &title, stop, resumed: false }).await
            }
            Err(outcome) => outcome,
        };
        let text = format!("The prompt mentions @{server}:{uri}, which is:\n\n{}", outcome.content);
        bodies.push(EventBody::ContextAdded { source: "MCP resource".into(), text });
    }
    append(agent, port, bodies).await
}
