"""Drives the binary that is named first with the official SDK, and prints what came of it as one line of JSON."""

import asyncio
import json
import os
import sys

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    create_sdk_mcp_server,
    query,
    tool,
)

CLI = sys.argv[1]


async def answer(client):
    """All messages until the result."""
    return [message async for message in client.receive_response()]


def results(messages):
    return [message for message in messages if isinstance(message, ResultMessage)]


async def main():
    facts = {"hooks": [], "asked": []}
    plain = [m async for m in query(prompt="plain", options=ClaudeAgentOptions(cli_path=CLI))]
    inits = [m.subtype for m in plain if isinstance(m, SystemMessage)]
    facts["query"] = [*inits, results(plain)[0].result, results(plain)[0].subtype]

    async def before(given, call, context):
        facts["hooks"].append(["pre", given["tool_name"]])
        return {}

    async def after(given, call, context):
        response = given["tool_response"]
        facts["hooks"].append(["post", response.get("stdout") if isinstance(response, dict) else None])
        return {}

    async def may(name, given, context):
        facts["asked"].append(given["command"])
        if "secret" in given["command"]:
            return PermissionResultDeny(message="not that one")
        return PermissionResultAllow()

    @tool("add", "Adds two numbers", {"a": int, "b": int})
    async def add(given):
        facts["added"] = given
        return {"content": [{"type": "text", "text": str(given["a"] + given["b"])}]}

    options = ClaudeAgentOptions(
        cli_path=CLI,
        can_use_tool=may,
        mcp_servers={"calc": create_sdk_mcp_server("calc", "1.0.0", tools=[add])},
        allowed_tools=["mcp__calc__add"],
        include_partial_messages=True,
        hooks={
            "PreToolUse": [HookMatcher(matcher="Bash", hooks=[before])],
            "PostToolUse": [HookMatcher(hooks=[after])],
        },
    )
    async with ClaudeSDKClient(options) as client:
        await client.query("use the tools")
        messages = await answer(client)
        result = results(messages)[0]
        denied = [denial["tool_input"]["command"] for denial in result.permission_denials]
        partial = any(isinstance(message, StreamEvent) for message in messages)
        facts["first"] = {"result": result.result, "denied": denied, "partial": partial}
        await client.set_permission_mode("acceptEdits")
        await client.set_model("another-model")
        await client.query("sleep")

        async def interrupt():
            while not os.path.exists("up"):
                await asyncio.sleep(0.01)
            await client.interrupt()

        waiting = asyncio.create_task(interrupt())
        messages = await answer(client)
        await waiting
        init = [m.data for m in messages if isinstance(m, SystemMessage) and m.subtype == "init"][0]
        facts["interrupted"] = [results(messages)[0].subtype, init["permissionMode"], init["model"]]
        await client.query("awake")
        facts["again"] = results(await answer(client))[0].result
        status = await client.get_mcp_status()
        facts["servers"] = [[server["name"], server["status"]] for server in status["mcpServers"]]
    print(json.dumps(facts))


asyncio.run(main())
