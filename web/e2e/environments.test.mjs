// Environments: chosen, edited, tried out, and what goes wrong on the way; failed preparations.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { startMock } from "../mock/server.mjs";
import { launch, openPage } from "./browser.mjs";
import { offencesOfRequest } from "./contract.mjs";

let browser;
let mock;
let page;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

beforeEach(async () => {
  mock = await startMock({ signedIn: true, pace: 10 });
  page = await openPage(browser);
});

afterEach(async () => {
  assert.deepEqual(page.findings, []);
  for (const { name, body } of mock.requests) assert.deepEqual(offencesOfRequest(name, body), [], name);
  await page.context().close();
  await mock.close();
});

const chip = () => page.locator("button.env");
const dialog = () => page.locator("dialog.environment");
const toast = (text) => page.locator(`text=${text}`).first();
const asked = (name) => mock.requests.filter((request) => request.name === name);

async function home(tail = "?prompt=Do+it&repo=https%3A%2F%2Fh%2Fthere.git") {
  await page.goto(`${mock.url}/new${tail}`);
  await page.locator("button.env:has-text('Default')").waitFor();
}

async function edit(name) {
  await home();
  await chip().click();
  await page.click(`button[aria-label="Edit ${name}"]`);
  await dialog().waitFor();
}

const focused = () => page.evaluate(() => document.activeElement.textContent.trim().replace(/\s+/g, " "));

describe("the selector", () => {
  test("by the keyboard: arrows walk, Enter chooses, Escape leaves, the choice outlives a reload and is sent", async () => {
    await home();
    assert.match(await chip().textContent(), /Default\s*·\s*Trusted/);
    await chip().focus();
    await page.keyboard.press("Enter");
    await page.locator("[data-line]").first().waitFor();
    assert.equal(await page.locator("[data-line]:has-text('Old toolchain')").count(), 0, "archived ones are hidden");
    assert.match(await focused(), /^Default/, "the chosen one has the focus");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    assert.match(await focused(), /^Rust, with protobuf/);
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Edit Rust, with protobuf");
    await page.keyboard.press("End");
    assert.equal(await focused(), "Add environment");
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement.classList.contains("env")), true);
    assert.match(await chip().textContent(), /Default/);
    await page.keyboard.press("Enter");
    await page.locator("[data-line]").first().waitFor();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.locator("button.env:has-text('Rust, with protobuf')").waitFor();
    await page.reload();
    await page.locator("button.env:has-text('Rust, with protobuf')").waitFor();
    const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/sessions"));
    await page.click("button[type=submit]");
    assert.equal((await sent).postDataJSON().environment, mock.environments.rust.id);
    await page.locator("header >> text=Rust, with protobuf").waitFor();
    // Folded again when all went well, and what was kept is said.
    await page.locator(".item:has-text('The suite passes')").waitFor();
    await page.locator(".item.steps:has-text('kept for later sessions of web')").waitFor();
    assert.equal(await page.locator(".item.steps button[aria-expanded]").first().getAttribute("aria-expanded"), "false");
  });

  test("one that was archived elsewhere is explained, and the list follows", async () => {
    await home();
    await chip().click();
    await page.click("[data-line]:has-text('Offline') >> button >> nth=0");
    mock.environments.answer({ method: "POST", id: mock.environments.offline.id, what: "archive", body: { archived: true } });
    await page.click("button[type=submit]");
    await page.locator("[role=alert]:has-text('is archived')").waitFor();
    await page.locator("button.env:has-text('Default')").waitFor();
  });

  test("a list that cannot be read says so and can be asked for again", async () => {
    mock.failNext("GET /environments", { status: 503, code: "recovering", title: "the server reads its log", next: "try again in a moment" });
    await page.goto(`${mock.url}/new`);
    await page.locator("button.env:has-text('Environment')").click();
    await page.click("[role=alert]:has-text('reads its log') >> button");
    await page.locator("[data-line]:has-text('Offline')").waitFor();
  });
});

describe("the dialog", () => {
  test("adds one, by keyboard, and chooses it", async () => {
    await home();
    await chip().focus();
    await page.keyboard.press("Enter");
    await page.locator("[data-line]").first().waitFor();
    await page.keyboard.press("End");
    await page.keyboard.press("Enter");
    await dialog().waitFor();
    await page.keyboard.press("Enter");
    await page.locator("text=Give it a name.").waitFor();
    await page.keyboard.type("Tools");
    const reaches = page.locator("dialog >> text=still goes to whoever provides its model");
    assert.equal(await reaches.count(), 0);
    await page.click(".card:has-text('None')");
    await reaches.waitFor();
    await page.click(".card:has-text('Custom')");
    await reaches.waitFor({ state: "detached" });
    await page.fill("#env-network", "example.org\nhttps://a.org\n*.org");
    await page.locator("#env-network-wrong >> text=leave the scheme and the path out").waitFor();
    await page.locator("#env-network-wrong >> text=a whole top-level domain").waitFor();
    await page.fill("#env-network", "example.org\n*.a.org");
    await page.locator("text=2 domains.").waitFor();
    await page.uncheck("text=Include the default list");
    await page.fill("#env-variables", 'A=1\nQ="x"\noops');
    await page.locator("#env-variables-wrong >> text=Line 3 has no").waitFor();
    await page.locator("#env-variables-look >> text=the quotes are part of the value of Q").waitFor();
    await page.fill("#env-variables", "A=1");
    await page.fill("#env-memory_bytes", "12 potatoes");
    await page.locator("#env-memory_bytes-wrong >> text=Write a number, such as 16 GB").waitFor();
    await page.click("dialog >> button[type=submit]");
    assert.equal(await page.evaluate(() => document.activeElement.id), "env-memory_bytes", "the wrong field has the focus");
    await page.fill("#env-memory_bytes", "512 MiB");
    await page.fill("#env-cpu_millis", "0.5");
    await page.selectOption("#env-strictness", "exactly");
    await page.click(".card:has-text('gVisor')");
    await page.click("dialog >> button[type=submit]");
    await dialog().waitFor({ state: "detached" });
    await page.locator("button.env:has-text('Tools')").waitFor();
    assert.match(asked("POST /environments")[0].key, /^[0-9A-HJKMNP-TV-Z]{26}$/);
    assert.deepEqual(mock.environments.resolve("Tools").settings, {
      name: "Tools",
      image: "slim",
      network: { level: "custom", domains: ["example.org", "*.a.org"], include_default: false },
      rendering: "compatible",
      variables: "A=1",
      secrets: [],
      setup_script: "",
      limits: { memory_bytes: 536_870_912, cpu_millis: 500, pids: 4096, disk_bytes: 30_000_000_000, open_files: 65_536 },
      tier: { exactly: "gvisor" },
      unenforced: "tell",
      nested_containers: false,
      cache_setup: true,
    });
  });

  test("sends back what it was given, byte for byte", async () => {
    await edit("Rust, with protobuf");
    await page.fill("#env-name", "Rust");
    await page.click("dialog >> button[type=submit]");
    await dialog().waitFor({ state: "detached" });
    const { settings } = mock.environments.resolve("Rust");
    assert.deepEqual(settings, { ...mock.environments.rust.settings, name: "Rust" });
  });

  test("puts a refusal to the field that it names, until that is changed", async () => {
    await edit("Rust, with protobuf");
    await page.fill("#env-name", "default");
    await page.click("dialog >> button[type=submit]");
    await page.locator("#env-name-wrong >> text=There is an environment `default` already").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "env-name");
    await page.fill("#env-name", "Rust 2");
    await page.locator("#env-name-wrong >> text=already").waitFor({ state: "detached" });
    mock.failNext("PUT /environments", { status: 400, code: "bad_environment", title: "the limit `pids` must be 16 to 4194304", next: "change it and send it again" });
    await page.click("dialog >> button[type=submit]");
    await page.locator("#env-pids-wrong >> text=must be 16 to 4194304").waitFor();
    mock.failNext("PUT /environments", { status: 500, code: "internal", title: "the database is locked", next: "try again" });
    await page.click("dialog >> button[type=submit]");
    await page.locator("dialog [role=alert]:has-text('The database is locked')").waitFor();
    await page.click("dialog >> button[type=submit]");
    await dialog().waitFor({ state: "detached" });
    assert.equal(mock.environments.resolve("Rust 2").revision, 2);
  });

  test("a change in between is shown setting by setting: reload takes theirs", async () => {
    await edit("Rust, with protobuf");
    await page.fill("#env-variables", "MINE=1");
    mock.environments.edit(mock.environments.rust.id, { variables: "THEIRS=1", name: "Rust, renamed" });
    await page.click("dialog >> button[type=submit]");
    const conflict = page.locator("dialog [role=alert]:has-text('Somebody else saved')");
    await conflict.waitFor();
    assert.match(await conflict.textContent(), /Name.*Rust, renamed.*Rust, with protobuf.*Variables.*THEIRS=1.*MINE=1/s);
    await conflict.locator("text=Load what is saved").click();
    assert.equal(await page.inputValue("#env-variables"), "THEIRS=1");
    assert.equal(await page.inputValue("#env-name"), "Rust, renamed");
  });

  test("a change in between can be overwritten", async () => {
    await edit("Rust, with protobuf");
    await page.fill("#env-variables", "MINE=1");
    mock.environments.edit(mock.environments.rust.id, { variables: "THEIRS=1" });
    await page.click("dialog >> button[type=submit]");
    await page.click("dialog [role=alert] >> text=Overwrite with mine");
    await dialog().waitFor({ state: "detached" });
    const now = mock.environments.resolve(mock.environments.rust.id);
    assert.deepEqual([now.settings.variables, now.revision], ["MINE=1", 3]);
  });

  const secret = (name) => page.locator(`#env-secrets details:has(summary:has-text("${name}"))`);
  const label = (name, text) => secret(name).getByLabel(text, { exact: true });

  test("secrets are shown without their values, and kept", async () => {
    await edit("Rust, with protobuf");
    await page.locator("#env-secrets summary >> text=DEPLOY_TOKEN for deploy.example.org, only POST").click();
    assert.equal(await label("DEPLOY_TOKEN", "A new value").inputValue(), "");
    await page.fill("#env-variables", "MINE=1");
    await page.click("dialog >> button[type=submit]");
    await dialog().waitFor({ state: "detached" });
    assert.deepEqual(mock.environments.resolve(mock.environments.rust.id).settings.secrets, mock.environments.rust.settings.secrets);
    assert.equal(mock.environments.values.size, 0);
  });

  test("a secret is bound where it is typed, and its value goes on its own", async () => {
    await edit("Rust, with protobuf");
    await page.click("text=Add a secret");
    await page.keyboard.type("API_TOKEN");
    await page.click("dialog >> button[type=submit]");
    await page.locator("#env-secrets-wrong >> text=API_TOKEN: name each host that may get it").waitFor();
    await label("API_TOKEN", "Hosts that may get it").fill("*.example.org");
    await page.locator("#env-secrets-wrong >> text=has to be one host").waitFor();
    await label("API_TOKEN", "Hosts that may get it").fill("api.example.org");
    await label("API_TOKEN", "Only these methods").fill("get post");
    await label("API_TOKEN", "Only at or below these paths").fill("/v1");
    await label("API_TOKEN", "Value").fill("s3cret-value");
    await secret("DEPLOY_TOKEN").locator("summary").click();
    await page.click("text=Remove DEPLOY_TOKEN");
    await page.click("dialog >> button[type=submit]");
    await dialog().waitFor({ state: "detached" });
    const { id } = mock.environments.rust;
    assert.deepEqual(mock.environments.resolve(id).settings.secrets, [
      { name: "API_TOKEN", hosts: ["api.example.org"], methods: ["GET", "POST"], paths: ["/v1"], source: "sealed" },
    ]);
    assert.equal(mock.environments.values.get(`${id} API_TOKEN`), "s3cret-value");
    await edit("Rust, with protobuf");
    assert.ok(!(await page.content()).includes("s3cret-value"));
  });

  test("a value that cannot be set stays typed, and what was saved stays saved", async () => {
    await edit("Default");
    await page.click("text=Add a secret");
    await page.keyboard.type("API_TOKEN");
    await label("API_TOKEN", "Hosts that may get it").fill("api.example.org");
    await label("API_TOKEN", "Value").fill("s3cret-value");
    mock.failNext("/secrets/API_TOKEN", { status: 500, code: "internal", title: "the database is locked", next: "try again" });
    await page.click("dialog >> button[type=submit]");
    await page.locator("dialog [role=alert]:has-text('The database is locked')").waitFor();
    const { id } = mock.environments.usual;
    assert.equal(mock.environments.resolve(id).settings.secrets.length, 1);
    assert.equal(await label("API_TOKEN", "Value").inputValue(), "s3cret-value");
    await page.click("dialog >> button[type=submit]");
    await dialog().waitFor({ state: "detached" });
    assert.equal(mock.environments.values.get(`${id} API_TOKEN`), "s3cret-value");
  });

  test("warnings that nobody has seen keep it open", async () => {
    await edit("Default");
    await page.check("text=Containers inside");
    await page.click("dialog >> button[type=submit]");
    await page.locator(".warnings:has-text('Saved, and worth a second look:') >> text=Containers inside need a wider range").waitFor();
    await page.click("dialog >> text=Close");
    await dialog().waitFor({ state: "detached" });
  });

  test("warns of a tier that cannot be had", async () => {
    await edit("Offline");
    await page.locator(".warnings >> text=there is no /dev/kvm").waitFor();
  });

  test("tells whether a host would pass as it is typed, and forgets the answer when that is changed", async () => {
    await edit("Rust, with protobuf");
    const field = page.locator("#env-test-host");
    const result = page.locator("fieldset:has(#env-test-host) [role=status]");
    assert.equal(await page.isDisabled("fieldset:has(#env-test-host) >> button"), true);
    await field.fill("a.static.example.org");
    await page.keyboard.press("Enter");
    await result.locator("text=Yes. a.static.example.org:443 is allowed, by the rule `environment: *.static.example.org`.").waitFor();
    assert.equal(asked(`PUT /environments/${mock.environments.rust.id}`).length, 0, "Enter does not save");
    await field.fill("other.example.net:8443");
    assert.equal((await result.textContent()).trim(), "");
    await page.click("fieldset:has(#env-test-host) >> button:has-text('Test')");
    await result.locator("text=/No\\. other.*A person could allow it for one session/").waitFor();
    // What is not saved yet is what is tested.
    await page.click(".card:has-text('Full')");
    await page.click("fieldset:has(#env-test-host) >> button:has-text('Test')");
    await result.locator("text=by the rule `level full`").waitFor();
    await page.click(".card:has-text('Custom')");
    await page.fill("#env-network", "https://example.org");
    await field.press("Enter");
    await page.locator("fieldset:has(#env-test-host) [role=alert]:has-text('is no domain')").waitFor();
    mock.failNext("network-test", { status: 503, code: "recovering", title: "the server reads its log", next: "try again in a moment" });
    await page.click(".card:has-text('Trusted')");
    await field.press("Enter");
    await page.locator("fieldset:has(#env-test-host) [role=alert]:has-text('reads its log')").waitFor();
  });

  test("the default list can be for reading only", async () => {
    await edit("Default");
    await page.check("text=Read only, where anyone can write");
    await page.click("dialog >> button[type=submit]");
    await dialog().waitFor({ state: "detached" });
    assert.equal(mock.environments.resolve("Default").settings.rendering, "strict");
    await chip().click();
    await page.click('button[aria-label="Edit Default"]');
    assert.equal(await page.isChecked("text=Read only, where anyone can write"), true);
    await page.click(".card:has-text('Full')");
    await page.locator("text=Read only, where anyone can write").waitFor({ state: "detached" });
  });

  test("asks before typed text is lost, not otherwise", async () => {
    await edit("Default");
    await page.keyboard.press("Escape");
    await dialog().waitFor({ state: "detached" });
    await chip().click();
    await page.click('button[aria-label="Edit Default"]');
    await page.fill("#env-setup_script", "npm ci");
    await page.keyboard.press("Escape");
    await page.locator("dialog >> text=Your changes are not saved.").waitFor();
    await page.click("text=Keep editing");
    assert.equal(await page.inputValue("#env-setup_script"), "npm ci");
    await page.click("dialog >> button[aria-label=Close]");
    await page.click("text=Discard them");
    await dialog().waitFor({ state: "detached" });
    assert.equal(asked(`PUT /environments/${mock.environments.usual.id}`).length, 0);
  });

  test("makes one the default; archiving asks once, can be undone, and is not offered for the default", async () => {
    await edit("Rust, with protobuf");
    await page.click("dialog >> text=Make default");
    await toast("“Rust, with protobuf” is the default now").waitFor();
    await page.locator("dialog >> text=Archive…").waitFor({ state: "detached" });
    await page.keyboard.press("Escape");
    await dialog().waitFor({ state: "detached" });
    await chip().click();
    await page.locator("[data-line]:has-text('Rust') >> .default").waitFor();
    await page.click('button[aria-label="Edit Default"]');
    await page.click("dialog >> text=Archive…");
    await page.locator("text=Archive “Default”?").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("text=Archive “Default”?").waitFor({ state: "detached" });
    await page.click("dialog >> text=Archive…");
    await page.click("dialog >> text=Archive environment");
    await dialog().waitFor({ state: "detached" });
    await page.locator("button.env:has-text('Rust')").waitFor();
    await page.click("button:has-text('Undo')");
    await chip().click();
    await page.click('button[aria-label="Edit Default"]');
  });

  test("shows what is kept, and forgets it when asked", async () => {
    await edit("Rust, with protobuf");
    const kept = page.locator("[aria-label='Kept setup']");
    assert.match(await kept.textContent(), /acme\/web\.git 3f1c9a7e5b.*Built 1d ago, 412 MB, saves 1 min 36 s per start, last used 12m ago.*this commit only/s);
    await kept.locator("text=Refresh").click();
    await kept.locator("text=Nothing is kept yet.").waitFor();
    assert.deepEqual(mock.environments.resolve(mock.environments.rust.id).caches, []);
  });
});

describe("a test run", () => {
  test("runs what is typed, prints live, tells the end, and is remembered with its time", async () => {
    await edit("Default");
    await page.fill("#env-setup_script", "echo one\necho two");
    const sent = page.waitForRequest((request) => request.url().endsWith("/test-setup"));
    await page.click("button:has-text('Test run')");
    const body = (await sent).postDataJSON();
    assert.equal(body.settings.setup_script, "echo one\necho two");
    assert.deepEqual(body.repository, undefined);
    await page.locator("pre[aria-label='Output of the test run']:has-text('echo one: step 1')").waitFor();
    await page.locator("text=Test passed:").waitFor();
    assert.match(await page.locator("pre[aria-label='Output of the test run']").textContent(), /^echo one: step 1\necho one: step 2\necho two: step 1\necho two: step 2\s*$/);
    await page.fill("#env-setup_script", "echo one\nexit 3");
    await page.locator("text=the script was changed since").waitFor();
    await page.click("button:has-text('Test run')");
    await page.locator("text=The setup script ended with 3.").waitFor();
    await page.keyboard.press("Escape");
    await page.click("text=Discard them");
    await chip().click();
    await page.click('button[aria-label="Edit Default"]');
    await page.locator("text=Test failed:").waitFor();
  });

  test("is stopped, and goes on to be shown after the dialog was closed", async () => {
    await edit("Rust, with protobuf");
    await page.fill("#env-setup_script", "repeat");
    await page.click("button:has-text('Test run')");
    await page.locator("pre[aria-label='Output of the test run']:has-text('repeat: step 9')").waitFor();
    await page.keyboard.press("Escape");
    await page.click("text=Discard them");
    await chip().click();
    await page.click('button[aria-label="Edit Rust, with protobuf"]');
    await page.locator("pre[aria-label='Output of the test run']:has-text('repeat: step')").waitFor();
    await page.click("dialog >> button:has-text('Stop')");
    await page.locator("text=The setup test was stopped.").waitFor();
    await page.locator("dialog >> button:has-text('Test run')").waitFor();
  });

  test("of one that is not saved yet is not remembered", async () => {
    await home();
    const add = async () => {
      await chip().click();
      await page.click("text=Add environment");
      await dialog().waitFor();
    };
    await add();
    await page.fill("#env-name", "Tools");
    await page.fill("#env-setup_script", "echo one");
    await page.click("button:has-text('Test run')");
    await page.locator("text=Test passed:").waitFor();
    assert.equal(asked(`POST /environments/${mock.environments.usual.id}/test-setup`)[0].body.settings.name, "Tools");
    await page.keyboard.press("Escape");
    await page.click("text=Discard them");
    await dialog().waitFor({ state: "detached" });
    await add();
    assert.equal(await page.locator("text=Test passed:").count(), 0);
  });

  test("one too many is explained", async () => {
    await edit("Rust, with protobuf");
    mock.failNext("test-setup", { status: 429, code: "too_many_setup_tests", title: "8 setup tests already wait or run", next: "wait for one to end" });
    await page.click("button:has-text('Test run')");
    await page.locator("dialog [role=alert]:has-text('8 setup tests already wait or run')").waitFor();
  });
});

describe("a failed preparation", () => {
  const open = async (name) => {
    await page.goto(`${mock.url}/s/${mock.scenes[name].id}`);
    await page.locator(".item").first().waitFor();
  };

  test("shows the log and the command that looks inside, and is tried again", async () => {
    await open("setupFailed");
    await page.locator(".item.steps pre:has-text('Unable to locate package')").waitFor();
    const command = `patchyard sessions shell ${mock.scenes.setupFailed.id}`;
    assert.equal(await page.locator("section[aria-label='The preparation failed'] code").textContent(), command);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.click("[aria-label='Copy the command that opens a shell inside']");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
    await page.click("button:has-text('Try again')");
    await page.locator("section[aria-label='The preparation failed']").waitFor({ state: "detached" });
    await page.locator(".item:has-text('The suite passes')").waitFor();
    assert.equal(await page.locator(".item.steps").count(), 2, "the failed one stays above");
    assert.equal(asked(`POST /sessions/${mock.scenes.setupFailed.id}/retry`).length, 1);
  });

  test("a refused retry is explained", async () => {
    await open("setupFailed");
    mock.failNext("retry", { status: 409, code: "nothing_failed", title: "nothing waits for the preparation", next: "send a prompt instead" });
    await page.click("button:has-text('Try again')");
    await page.locator("[role=alert]:has-text('Send a prompt instead')").waitFor();
  });

  test("a running script is shown live, each line once", async () => {
    await open("settingUp");
    const session = mock.scenes.settingUp;
    const out = page.locator(".item.steps pre");
    await out.waitFor();
    mock.world.live(session, { type: "step_output", step: "setup", text: "Fetching cra" });
    await page.locator(".item.steps pre:has-text('Fetching cra')").waitFor();
    mock.world.append(session, "step.output", { step: "setup", text: "Fetching crates\n" });
    await page.locator(".item.steps pre:has-text('Fetching crates')").waitFor();
    assert.equal((await out.textContent()).split("Fetching").length, 2);
    mock.world.append(session, "step.finished", { step: "setup", duration_ms: 9000 });
    await page.locator(".item.steps button[aria-expanded=false]").waitFor();
  });

  test("a start that reused something says so in its one line, and so do visits", async () => {
    await open("reused");
    await page.locator(".item.steps:has-text('reused the setup of https://git.example.org/acme/web.git at 3f1c9a7e5b')").waitFor();
    const lines = await page.locator(".item.line").allTextContents();
    assert.deepEqual(lines.map((text) => text.trim()), [
      "Shell opened: bash -l",
      "Copied target/schema.json out of the sandbox, 12 kB",
      "Shell closed after 1 min 35 s: exit 0",
      "Network: 169.254.169.254:80 refused, it is the metadata service of a cloud",
    ]);
  });
});
