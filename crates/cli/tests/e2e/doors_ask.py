"""One request to a gateway of this sandbox, and its answer as one line of JSON.

    doors_ask.py METHOD PATH [BODY [HEADER: VALUE]...]      PORT is 3130 unless the environment says so

BODY may be `@N`: N bytes of nothing, sent in pieces. An event stream is shown as it comes, a line for
each event, and after its first delta a request of the model `saw-a-delta` tells that it is here.
"""
import http.client
import json
import os
import sys


def ask(method, path, body=None, headers=None):
    port = int(os.environ.get("PORT", "3130"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, headers or {})
    return connection.getresponse()


def main(method, path, body="", *headers):
    if body.startswith("@"):
        left = int(body[1:])
        body = (b" " * 65536 for _ in range(left // 65536))
        headers = (*headers, f"content-length: {left // 65536 * 65536}")
    answer = ask(method, path, body or None, dict(header.split(": ", 1) for header in headers))
    told = {name.lower(): value for name, value in answer.getheaders()}
    text = ""
    streams = told.get("content-type", "").startswith("text/event-stream")
    try:
        if streams:
            told_of = False
            while line := answer.readline().decode():
                text += line
                if "content_block_delta" in line and not told_of:
                    told_of = True
                    ask("POST", "/v1/messages/count_tokens", json.dumps({"model": "saw-a-delta"})).read()
        else:
            text = answer.read().decode()
        broken = streams and "message_stop" not in text
    except (OSError, http.client.HTTPException):
        broken = True
    print(json.dumps({"status": answer.status, "headers": told, "body": text, "broken": broken}))


main(*sys.argv[1:])
