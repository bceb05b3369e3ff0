"""An MCP server for tests: one JSON message a line, or one HTTP request a message.

python3 mcp_server.py MODE, where MODE is `good`, a way to be bad, or `http:PORT`.
"""

import json
import os
import socket
import sys
import threading
import time

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
LOCK = threading.Lock()
CANCELLED = {}


def tool(name, properties=None, **more):
    schema = {"type": "object", "properties": properties or {}}
    return {"name": name, "description": "Does " + name, "inputSchema": schema, **more}


TOOLS = [
    tool("echo", {"text": {"type": "string"}}, annotations={"readOnlyHint": True}),
    tool("where"),
    tool("reach", {"host": {"type": "string"}}),
    tool("picture"),
    tool("structured"),
    tool("big", {"bytes": {"type": "integer"}}),
    tool("fails"),
    tool("refuses"),
    tool("waits"),
    tool("dies"),
    tool("floods"),
    tool("lies"),
    tool("hangs"),
    tool("forbidden"),
    {"name": "broken", "inputSchema": {"type": "string"}},
]


def say(message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(value):
    return {"content": [{"type": "text", "text": value}]}


def reach(host):
    try:
        with socket.create_connection(("127.0.0.1", 3128), 5) as proxy:
            proxy.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
            return proxy.recv(200).decode().split("\r\n")[0]
    except OSError as error:
        return str(error)


def call(ident, name, arguments, meta):
    if name == "echo":
        return text(arguments.get("text", ""))
    if name == "where":
        facts = {
            "cwd": os.getcwd(),
            "project": os.environ.get("CLAUDE_PROJECT_DIR"),
            "own": os.environ.get("OWN"),
            "args": sys.argv[2:],
            "init": open("/proc/1/comm").read().strip(),
            "interfaces": sorted(os.listdir("/sys/class/net")),
            "call": meta.get("claudecode/toolUseId"),
        }
        return text(json.dumps(facts))
    if name == "reach":
        return text(reach(arguments["host"]))
    if name == "picture":
        return {"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}]}
    if name == "structured":
        return {"content": [], "structuredContent": {"answer": 42}}
    if name == "big":
        return text("x" * arguments["bytes"])
    if name == "fails":
        return {**text("it is broken"), "isError": True}
    if name == "waits":
        token = meta.get("progressToken")
        say({"method": "notifications/progress",
             "params": {"progressToken": token, "progress": 1, "total": 3, "message": "one third"}})
        stopped = CANCELLED.setdefault(ident, threading.Event()).wait(60)
        with open(os.environ.get("WAITED", "/tmp/waited"), "w") as out:
            out.write("cancelled" if stopped else "in vain")
        return None if stopped else text("waited")
    if name == "dies":
        print("I had enough", file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)
    if name == "floods":
        while True:
            say({"method": "notifications/message", "params": {"level": "info", "data": "x" * 60000}})
    if name == "lies":
        say({"id": 999999, "result": text("not yours")})
        say({"id": None, "result": text("not yours")})
        say({"id": "x", "error": {"code": 1, "message": "not yours"}})
        sys.stdout.write("this is no JSON\n{\"jsonrpc\":\"2.0\"}\n[]\n")
        return text("the truth")
    if name == "hangs":
        time.sleep(3600)
    return text("done")


def answer(message):
    method, ident, params = message.get("method"), message.get("id"), message.get("params") or {}
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
            "serverInfo": {"name": "test", "version": "1"},
            "instructions": "Echo before you leap.",
        }
    if method == "tools/list":
        # Two pages.
        if params.get("cursor") == "rest":
            return {"tools": TOOLS[5:]}
        return {"tools": TOOLS[:5], "nextCursor": "rest"}
    if method == "tools/call":
        if params["name"] == "refuses":
            raise ValueError("no such thing")
        return call(ident, params["name"], params.get("arguments") or {}, params.get("_meta") or {})
    if method == "prompts/list":
        return {"prompts": [{"name": "greet", "description": "Greets", "arguments": [{"name": "whom", "required": True}]}]}
    if method == "prompts/get":
        words = f"Say hello to {params['arguments']['whom']}."
        return {"messages": [{"role": "user", "content": {"type": "text", "text": words}}]}
    if method == "resources/list":
        return {"resources": [{"uri": "memo://one", "name": "one", "description": "The first"}]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": "a memo of " + params["uri"]}]}
    if method == "ping":
        return {}
    raise LookupError(f"{method} is not known")


def reply(message):
    try:
        result = answer(message)
    except LookupError as error:
        return {"id": message["id"], "error": {"code": -32601, "message": str(error)}}
    except Exception as error:
        return {"id": message["id"], "error": {"code": -32602, "message": str(error)}}
    return None if result is None else {"id": message["id"], "result": result}


def take(message):
    if "id" not in message:
        if message.get("method") == "notifications/cancelled":
            CANCELLED.setdefault(message["params"]["requestId"], threading.Event()).set()
        return
    said = reply(message)
    if said is not None:
        say(said)


def serve_stdio():
    for line in sys.stdin:
        threading.Thread(target=take, args=(json.loads(line),), daemon=True).start()


def serve_http(port):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = reply(message) if "id" in message else None
            if said is not None and message.get("method") == "tools/call" and message["params"]["name"] == "where":
                said = {"id": message["id"], "result": text(json.dumps({"key": self.headers.get("x-key")}))}
            body = b"" if said is None else json.dumps({"jsonrpc": "2.0", **said}).encode()
            self.send_response(202 if said is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.send_response(405)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if MODE == "dead":
    print("no such database", file=sys.stderr)
    sys.exit(1)
elif MODE == "mute":
    time.sleep(3600)
elif MODE == "spring":
    # Never reads, and never stops.
    while True:
        sys.stdout.write("x" * 65536)
elif MODE.startswith("http:"):
    serve_http(int(MODE.split(":")[1]))
else:
    serve_stdio()
