// The official TypeScript SDK through the gateway of this sandbox, told of it by variables alone.
import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic();
const asked = { max_tokens: 9, messages: [{ role: "user", content: "from typescript" }] };

const whole = await client.messages.create({ model: "plain", ...asked });
assert.equal(whole.content[0].text, "Hello there");

const stream = client.messages.stream({ model: "plain", ...asked });
assert.equal(await stream.finalText(), "Hello there");
assert.equal((await stream.finalMessage()).usage.output_tokens, 5);

const kinds = [];
for await (const event of await client.messages.create({ model: "plain", stream: true, ...asked })) {
  kinds.push(event.type);
}
assert.equal(kinds[0], "message_start");
assert.equal(kinds.at(-1), "message_stop");

const again = await client.messages.create({ model: "busy", ...asked });
assert.equal(again.content[0].text, "Hello there");

const counted = await client.messages.countTokens({ model: "plain", messages: asked.messages });
assert.equal(counted.input_tokens, 17);
assert.equal((await client.models.list()).data[0].id, "plain");
assert.equal((await client.models.retrieve("plain")).id, "plain");

const tools = [{ type: "web_search_20250305", name: "web_search" }];
await assert.rejects(client.messages.create({ model: "plain", tools, ...asked }), (error) => {
  assert.ok(error instanceof Anthropic.PermissionDeniedError, String(error));
  return error.message.includes("web_search");
});
await assert.rejects(client.beta.files.list().then((page) => page.data), (error) => {
  assert.ok(error instanceof Anthropic.NotFoundError, String(error));
  return error.message.includes("GET /v1/files");
});

console.log("all of it works");
