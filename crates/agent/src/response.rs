//! Results of tools in the fields that hooks and drivers know.

use protocol::event::{ToolCall, ToolResult};
use serde_json::{Value, json};

use crate::mcp;

/// What came of a call, in the fields of its tool.
#[must_use]
pub fn tool_response(call: &ToolCall, result: &ToolResult) -> Value {
    // A hook or a driver may have put another input in place of the model's.
    let input = result.detail.get("input").unwrap_or(&call.input);
    // What hooks and instructions say behind it is for the model.
    let own = result.detail["own_length"].as_u64().and_then(|length| usize::try_from(length).ok());
    let content = own.and_then(|length| result.content.get(..length)).unwrap_or(&result.content);
    of(&call.name, input, content, &result.detail)
}

/// What hooks and drivers read of a result.
pub(crate) fn of(name: &str, input: &Value, content: &str, detail: &Value) -> Value {
    match name {
        "Bash" => json!({
            "stdout": content,
            "stderr": "",
            "interrupted": detail["interrupted"] == true,
            "isImage": false,
            "backgroundTaskId": detail["background_task_id"],
        }),
        "Read" => json!({ "type": "text", "file": {
            "filePath": input["file_path"],
            "content": content,
            "numLines": detail["lines"],
            "startLine": input["offset"].as_u64().unwrap_or(1),
        } }),
        "Edit" => json!({
            "filePath": input["file_path"],
            "oldString": input["old_string"],
            "newString": input["new_string"],
            "replaceAll": input["replace_all"] == true,
            "userModified": false,
            "gitDiff": { "patch": detail["patch"] },
        }),
        "Write" => json!({
            "type": if detail["created"] == true { "create" } else { "update" },
            "filePath": input["file_path"],
            "content": input["content"],
        }),
        "Skill" => detail.clone(),
        "Agent" | "Task" => json!({
            "status": "completed",
            "agentId": detail["agent_id"],
            "agentType": detail["agent_type"],
            "content": [{ "type": "text", "text": content }],
            "totalToolUseCount": detail["tool_uses"],
            "totalTokens": detail["tokens"],
        }),
        _ if name.starts_with(mcp::PREFIX) => json!([{ "type": "text", "text": content }]),
        _ => json!({ "content": content }),
    }
}
