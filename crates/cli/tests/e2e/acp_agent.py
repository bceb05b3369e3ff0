"""A small deterministic agent that speaks ACP 1 on its standard streams, and ways to misbehave.

    acp_agent.py [good | exits | garbage | floods]
"""
import json
import os
import subprocess
import sys

mode = sys.argv[1] if len(sys.argv) > 1 else "good"
next_id = 100


def send(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def receive():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def update(session, **fields):
    send(method="session/update", params={"sessionId": session, "update": fields})


def say(session, text, kind="agent_message_chunk"):
    update(session, sessionUpdate=kind, content={"type": "text", "text": text})


def ask(session):
    """Asks for permission, and gives the chosen option or None."""
    global next_id
    next_id += 1
    options = [
        {"optionId": "never", "name": "No", "kind": "reject_once"},
        {"optionId": "once", "name": "Yes", "kind": "allow_once"},
    ]
    call = {"toolCallId": "c1", "title": "write a file", "kind": "edit", "status": "pending"}
    send(id=next_id, method="session/request_permission",
         params={"sessionId": session, "toolCall": call, "options": options})
    while True:
        message = receive()
        if message.get("id") == next_id:
            return message["result"]["outcome"].get("optionId")


def work(session):
    say(session, "Let me ", "agent_thought_chunk")
    say(session, "think.", "agent_thought_chunk")
    say(session, "I write ")
    say(session, "a file.")
    entries = [{"content": "Write it", "priority": "high", "status": "in_progress"}]
    update(session, sessionUpdate="plan", entries=entries)
    update(session, sessionUpdate="tool_call", toolCallId="c1", title="Write out.txt", kind="edit",
           status="pending", rawInput={"path": "out.txt"})
    allowed = ask(session)
    with open("out.txt", "w") as file:
        file.write(f"allowed: {allowed}\nsession: {os.environ['PATCHYARD_SESSION_ID']}\n")
    done = [{"type": "content", "content": {"type": "text", "text": f"wrote it: {allowed}"}}]
    update(session, sessionUpdate="tool_call_update", toolCallId="c1", status="completed", content=done)
    # Once more, and one that was never announced: both happen.
    update(session, sessionUpdate="tool_call_update", toolCallId="c1", status="completed", content=done)
    update(session, sessionUpdate="tool_call_update", toolCallId="c2", status="failed", title="Read nothing",
           rawOutput={"error": "nothing"})
    update(session, sessionUpdate="tool_call", toolCallId="c3", title="Left open", kind="execute")
    update(session, sessionUpdate="of_a_newer_version", whatever=True)
    send(method="_of_our_own/notice", params={})
    say(session, "Done.")


def answer(message):
    params = message.get("params") or {}
    session = params.get("sessionId")
    text = "".join(block.get("text", "") for block in params.get("prompt", []))
    if text == "die":
        say(session, "I am about to")
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(7)
    if text == "garbage":
        print("this is no JSON at all {", flush=True)
        print("[1, 2\n\n", flush=True)
    if text == "binary":
        sys.stdout.buffer.write(b"\xff\xfe\x00\n")
        sys.stdout.flush()
    if text == "wait":
        say(session, "waiting")
        subprocess.Popen(["sleep", "600"])
        while receive().get("method") != "session/cancel":
            pass
        return "cancelled"
    if text == "deaf":
        say(session, "deaf")
        while True:
            receive()
    if text == "babble":
        while True:
            say(session, "a", "agent_thought_chunk")
            say(session, "b")
    if text == "hoard":
        for number in range(300):
            update(session, sessionUpdate="tool_call", toolCallId=f"h{number}", title="One more")
        return "end_turn"
    if text == "unread":
        # The rest of what is sent to it stays unread, whatever is asked for.
        say(session, "unread")
        while True:
            send(id="again", method="session/request_permission", params={
                "sessionId": session, "toolCall": {"toolCallId": "u", "title": "x" * 10000},
                "options": [{"optionId": "y" * 10000, "name": "Yes", "kind": "allow_once"}]})
    if text == "curse":
        raise Refused("\x1b]0;owned\x07no\x1b[31m way")
    if text == "late":
        answer.late = True
        say(session, "in time")
        return "end_turn"
    if text == "refuse":
        return "refusal"
    if text == "who":
        say(session, f"pid {os.getpid()} turn {answer.turns}")
        answer.turns += 1
        return "end_turn"
    work(session)
    return "end_turn"


answer.turns = 1
answer.late = False


class Refused(Exception):
    """The prompt is answered with an error."""


def main():
    if mode == "exits":
        print("no licence found", file=sys.stderr, flush=True)
        sys.exit(3)
    if mode == "garbage":
        print("Welcome to the agent!\n" * 20, flush=True)
        sys.exit(0)
    if mode == "floods":
        while True:
            sys.stdout.write("x" * 65536)
    while True:
        message = receive()
        if "id" not in message or "method" not in message:
            continue
        method = message["method"]
        if method == "initialize":
            send(id=message["id"], result={"protocolVersion": 1, "agentCapabilities": {}, "authMethods": []})
        elif method == "session/new":
            assert message["params"]["cwd"] == os.getcwd(), message
            send(id=message["id"], result={"sessionId": "s1"})
        elif method == "session/prompt":
            try:
                send(id=message["id"], result={"stopReason": answer(message)})
            except Refused as error:
                send(id=message["id"], error={"code": -32000, "message": str(error)})
            if answer.late:
                answer.late = False
                for _ in range(50):
                    say(message["params"]["sessionId"], "too late")
        else:
            send(id=message["id"], error={"code": -32601, "message": "no such method"})


main()
