"""The official Python SDK through the gateway of this sandbox, told of it by variables alone."""
import asyncio

import anthropic

client = anthropic.Anthropic()
asked = {"max_tokens": 9, "messages": [{"role": "user", "content": "from python"}]}

whole = client.messages.create(model="plain", **asked)
assert whole.content[0].text == "Hello there" and whole.usage.output_tokens == 5, whole

with client.messages.stream(model="plain", **asked) as stream:
    assert "".join(stream.text_stream) == "Hello there"
    final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == 5, final


async def by_hand():
    stream = await anthropic.AsyncAnthropic().messages.create(model="plain", stream=True, **asked)
    return [event.type async for event in stream]


kinds = asyncio.run(by_hand())
assert kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds

again = client.messages.create(model="busy", **asked)
assert again.content[0].text == "Hello there", again

counted = client.messages.count_tokens(model="plain", messages=asked["messages"])
assert counted.input_tokens == 17, counted
assert [model.id for model in client.models.list()] == ["plain"]
assert client.models.retrieve("plain").id == "plain"

try:
    search = [{"type": "web_search_20250305", "name": "web_search"}]
    client.messages.create(model="plain", tools=search, **asked)
    raise SystemExit("a search was passed on")
except anthropic.PermissionDeniedError as error:
    assert "web_search" in str(error), error

try:
    client.beta.files.list()
    raise SystemExit("files were listed")
except anthropic.NotFoundError as error:
    assert "GET /v1/files" in str(error), error

print("all of it works")
