// Walks nsqadmin's pages and does everything on them, in Chromium. The test that starts it has a
// cluster ready, says in the environment where, and looks at what was done to it.

import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import assert from "node:assert/strict";

// Found by NODE_PATH, which imports do not look at.
const { chromium } = createRequire(import.meta.url)("playwright-core");

const { ADMIN, ROUGH, NODE, SCREENSHOTS, CHROMIUM } = process.env;
const PATIENCE = 30000;
mkdirSync(SCREENSHOTS, { recursive: true });

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

// Whatever a page complains of is a fault: of scripts, of the policy, of what cannot be loaded.
const complaints = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const { origin } = new URL(request.url());
    if (origin !== ADMIN && origin !== ROUGH) complaints.push(`request: ${request.url()}`);
  });
  return page;
}

const shot = (page, name) => page.screenshot({ path: `${SCREENSHOTS}/${name}.png` });
const live = (page) => page.locator("#pulse[data-state=live], #pulse[data-state=troubled]").waitFor();
const said = async (page, text) => {
  await page.locator("#outcome", { hasText: text }).waitFor();
};

async function step(name, walk) {
  const begun = Date.now();
  try {
    await walk();
    console.log(`${name}: ${Date.now() - begun} ms`);
  } catch (error) {
    console.log(`${name}: ${error.stack}`);
    process.exitCode = 1;
  }
}

const page = await open({ colorScheme: "light" });

await step("topics", async () => {
  const begun = Date.now();
  const answer = await page.goto(`${ADMIN}/`);
  const took = Date.now() - begun;
  assert.equal(answer.status(), 200);
  console.log(`topics in the browser: ${took} ms`);
  assert.equal(await page.locator("tbody tr").count(), 250);
  await live(page);
  await page.locator(".chart path").first().waitFor({ state: "attached" });
  await shot(page, "topics-light");

  // Found while typing, without the field losing its cursor.
  await page.keyboard.press("/");
  await page.keyboard.type("topic-0123");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await page.keyboard.press("Backspace");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 10);
  assert.equal(await page.locator("#find").inputValue(), "topic-012");
  assert.equal(await page.evaluate(() => document.activeElement.id), "find");
  await page.locator("#find").fill("");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 250);

  // Sorted by a click, the largest first.
  await page.getByRole("link", { name: "Backlog", exact: true }).click();
  await page.locator("th[aria-sort=descending]").waitFor();
  assert.match(await page.locator("tbody th a").first().innerText(), /^busy/);
  await page.getByRole("link", { name: "Next" }).first().click();
  await page.locator(".pager", { hasText: "251–500" }).first().waitFor();

  const all = Date.now();
  await page.goto(`${ADMIN}/?rows=5000`);
  console.log(`2000 rows in the browser: ${Date.now() - all} ms`);
  assert.ok(await page.locator("tbody tr").count() >= 2000);
});

await step("topic", async () => {
  await page.goto(`${ADMIN}/topics/busy`);
  await live(page);
  const depth = page.locator("tr[data-k='c:slow'] td[data-f=depth]");
  const before = await depth.innerText();
  await page.request.post(process.env.PUBLISH, { data: "a message" });
  await page.waitForFunction(
    ([before]) => {
      const cell = document.querySelector("tr[data-k='c:slow'] td[data-f=depth]");
      return cell.textContent !== before;
    },
    [before],
  );
  await shot(page, "topic-light");
});

await step("pause", async () => {
  for (const [verb, shown] of [["Pause", 1], ["Unpause", 0]]) {
    await page.getByRole("button", { name: verb, exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText(`${verb} topic busy?`).waitFor();
    await dialog.getByRole("button", { name: verb, exact: true }).click();
    await said(page, `${verb}: done`);
    await page.waitForFunction(
      (shown) => document.querySelectorAll(".title.is-paused").length === shown, shown);
  }
});

await step("channel", async () => {
  await page.goto(`${ADMIN}/topics/busy/slow`);
  await live(page);
  await page.getByText("127.0.0.1").first().waitFor();
  assert.ok(await page.getByRole("region", { name: "Clients" }).locator("tbody tr").count() > 0);
  await shot(page, "channel-light");

  // Empty says how many, and does it when it is confirmed; Escape and Cancel do nothing.
  const dialog = page.getByRole("dialog");
  await page.getByRole("button", { name: "Empty" }).click();
  await dialog.getByText(/All messages of slow, on 2 nodes, are thrown away: \d+\./).waitFor();
  await shot(page, "confirm-light");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Empty");
  await page.getByRole("button", { name: "Empty" }).click();
  await dialog.getByText(/thrown away: \d/).waitFor();
  await dialog.getByRole("button", { name: "Empty" }).click();
  await said(page, "Empty: done");
  await page.waitForFunction(
    () => document.querySelector("[data-k=total] [data-f=depth]").textContent === "0");

  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await dialog.getByRole("button", { name: "Pause", exact: true }).click();
  await said(page, "Pause: done");
  await page.getByRole("button", { name: "Unpause" }).click();
  await dialog.getByRole("button", { name: "Unpause" }).click();
  await said(page, "Unpause: done");
});

await step("delete", async () => {
  // With messages in it the name has to be typed.
  await page.goto(`${ADMIN}/topics/doomed/c`);
  const dialog = page.getByRole("dialog");
  await page.getByRole("button", { name: "Delete" }).click();
  await dialog.getByText(/with 3 messages/).waitFor();
  const go = dialog.getByRole("button", { name: "Delete" });
  assert.ok(await go.isDisabled());
  await dialog.getByRole("textbox").fill("wrong");
  assert.ok(await go.isDisabled());
  await dialog.getByRole("textbox").fill("c");
  await go.click();
  await page.waitForURL(`${ADMIN}/topics/doomed`);
  await page.getByText("No channels").waitFor();

  await page.getByRole("button", { name: "Empty" }).click();
  await dialog.getByText("Empty topic doomed?").waitFor();
  await dialog.getByRole("button", { name: "Empty" }).click();
  await said(page, "Empty: done");
  await page.getByRole("button", { name: "Delete" }).click();
  await dialog.getByText(/with 0 messages/).waitFor();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.waitForURL(`${ADMIN}/`);
  await said(page, "Delete: done");
  await page.goto(`${ADMIN}/topics/odd%23ephemeral`);
  await page.getByText("ephemeral", { exact: true }).waitFor();
  assert.match(await page.locator("h1").innerText(), /^odd#ephemeral/);
});

await step("nodes", async () => {
  await page.goto(`${ADMIN}/nodes`);
  await live(page);
  assert.equal(await page.locator("tbody tr").count(), 2);
  assert.equal(await page.locator("tbody .badge.bad").count(), 0);
  await shot(page, "nodes-light");
  await page.getByRole("link", { name: NODE }).click();
  await page.getByText("version 1.3.0").waitFor();
  await page.locator("#find").fill("tombed");
  await page.waitForFunction(() => document.querySelectorAll("tr[data-k^='t:']").length === 1);
  await shot(page, "node-light");
  await page.getByRole("button", { name: "Tombstone" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(`Tombstone tombed on ${NODE}?`).waitFor();
  await dialog.getByText("with 2 messages").waitFor();
  await dialog.getByRole("button", { name: "Tombstone" }).click();
  await said(page, "Tombstone: done");
  await page.waitForFunction(() => document.querySelectorAll("tr[data-k^='t:']").length === 0);
});

await step("counter", async () => {
  await page.goto(`${ADMIN}/counter`);
  await live(page);
  await page.waitForFunction(() => document.querySelector(".number").textContent !== "0");
  await shot(page, "counter-light");
});

await step("lookup", async () => {
  await page.goto(`${ADMIN}/lookup`);
  assert.equal(await page.locator("tbody tr").count(), 2);
  await page.getByLabel("Topic").fill("made-here");
  await page.getByLabel("Channel").fill("made-too");
  await page.getByRole("button", { name: "Create" }).click();
  await said(page, "made-too of made-here: created");
  const entry = page.locator(".tree > li", { hasText: "made-here" });
  await entry.getByText("made-too").waitFor();
  await shot(page, "lookup-light");
  await entry.locator("li button").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("Delete channel made-too of made-here?").waitFor();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await entry.getByText("made-too").waitFor({ state: "detached" });
  await entry.locator("button").first().click();
  await dialog.getByText("Delete topic made-here?").waitFor();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await entry.waitFor({ state: "detached" });
});

await step("theme", async () => {
  await page.goto(`${ADMIN}/`);
  await page.locator("#theme").click();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
  await page.reload();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark", "it is kept");
});

await step("keyboard", async () => {
  await page.goto(`${ADMIN}/topics/busy`);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  // Everything that can be pressed has a name.
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("a, button, input")].filter((element) =>
      !element.closest("dialog") && !element.textContent.trim() && !element.ariaLabel
      && !element.labels?.length && element.type !== "hidden").length);
  assert.equal(nameless, 0);
});

await step("other site", async () => {
  const status = await page.evaluate(async (url) => {
    const answer = await fetch(url, { method: "POST", body: '{"topic":"x"}' });
    return answer.status;
  }, `${ADMIN}/api/topics`);
  assert.equal(status, 403, "without the header of our pages");
});
complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("403")));

const dark = await open({ colorScheme: "dark" });

await step("dark", async () => {
  await dark.goto(`${ADMIN}/?sort=backlog&dir=desc`);
  await live(dark);
  await dark.locator(".chart path").first().waitFor({ state: "attached" });
  await shot(dark, "topics-dark");
  await dark.goto(`${ADMIN}/topics/busy`);
  await live(dark);
  await dark.locator(".chart path").first().waitFor({ state: "attached" });
  await shot(dark, "topic-dark");
  await dark.getByRole("button", { name: "Delete" }).click();
  await dark.getByRole("dialog").getByRole("textbox").waitFor();
  await shot(dark, "confirm-dark");
});

const phone = await open({
  colorScheme: "light", viewport: { width: 390, height: 800 }, deviceScaleFactor: 2, hasTouch: true,
});

await step("phone", async () => {
  for (const [path, name] of [
    ["/?sort=backlog&dir=desc", "topics"], ["/topics/busy", "topic"],
    ["/topics/busy/slow", "channel"], ["/nodes", "nodes"], ["/lookup", "lookup"],
    ["/counter", "counter"],
  ]) {
    await phone.goto(`${ADMIN}${path}`);
    // The page itself never scrolls sideways.
    const { scroll, width } = await phone.evaluate(() =>
      ({ scroll: document.documentElement.scrollWidth, width: innerWidth }));
    assert.ok(scroll <= width, `${path}: ${scroll} > ${width}`);
    await shot(phone, `${name}-phone`);
  }
});

await step("a rough cluster", async () => {
  const rough = await open({ colorScheme: "light" });
  await rough.goto(`${ROUGH}/nodes`);
  await rough.getByText("no answer", { exact: true }).first().waitFor();
  await rough.getByText("Not all of the cluster has answered").waitFor();
  await rough.getByText("not well", { exact: true }).first().waitFor();
  await shot(rough, "rough-nodes");
  await rough.goto(`${ROUGH}/?q=img`);
  assert.equal(await rough.locator("main img").count(), 0);
  await rough.getByRole("link", { name: "<img" }).first().click();
  await rough.locator("h1", { hasText: "<img" }).waitFor();
  await rough.getByRole("button", { name: "Delete" }).click();
  await rough.getByRole("dialog").getByText("Delete topic <img").waitFor();
  // The name has the mark of the count's place in it, and stays as it is.
  await rough.getByRole("dialog").getByText(`"'{n} and its 1 channel end`).waitFor();
  await shot(rough, "rough-topic");
  await rough.keyboard.press("Escape");
  await rough.locator("tr[data-k^='c:'] th a").first().click();
  await rough.locator("h1", { hasText: "<img" }).waitFor();
  await live(rough);
  await shot(rough, "rough-channel");
});

await step("no complaints", async () => assert.deepEqual(complaints, []));

await browser.close();
if (!process.exitCode) console.log("OK");
