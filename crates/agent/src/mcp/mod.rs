//! MCP servers: programs and addresses that a repository or the operator names, whose tools the model has besides ours.
//!
//! ```text
//!  .mcp.json, managed-mcp.json ─ declared ─▶ expand ─▶ lists and settings ─▶ servers ─ offer ─▶ mcp__server__tool
//!                                                                              │
//!       mcp__server__tool · resources · /mcp__server__prompt ─ uses ─▶ connection (rmcp) ─ wire ─▶ the sandbox
//!                                                    ▲ content                             └ http: out of it, by its rules
//! ```
//!
//! A server is as hostile as the repository: it runs in the sandbox, or is reached from there, and nothing that it
//! says is believed further than a size, a shape and a time.

mod connection;
mod content;
mod declared;
mod error;
mod expand;
mod handler;
mod http;
mod names;
mod offer;
mod servers;
mod uses;
mod wire;

pub use declared::Declared;
pub(crate) use names::PREFIX;
pub use servers::{DriverServers, Servers, ServersPlace};
pub(crate) use uses::{
    call, describe, is_read_only, list_resources, mentions, notice, prompt, prompts, read_resource,
    server_of, tools,
};
