// Opens a page in Debian's chromium at several widths and schemes; prints what it measured, one JSON line each.
// Usage: node browse.mjs FOLDER_WITH_NODE_MODULES CHROMIUM PAGE [HOW_MANY_VIEWS [SCREENSHOT_PREFIX]]
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, chromium, page_file, few, shots] = process.argv.slice(2);
const views = [[390, "light", "screen"], [1280, "dark", "screen"], [1280, "light", "print"], [390, "dark", "screen"],
  [1280, "light", "screen"]];
const load = createRequire(path.join(path.resolve(modules), "package.json"));
const puppeteer = (await import(pathToFileURL(load.resolve("puppeteer-core")).href)).default;
const axe = fs.readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");
const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  protocolTimeout: 120000,
});

for (const [width, scheme, media] of views.slice(0, Number(few || 5))) {
  const page = await browser.newPage();
  await page.setViewport({ width, height: 844 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  if (media === "print") await page.emulateMediaType("print");
  const said = [], requests = [];
  page.on("pageerror", (error) => said.push("error: " + error));
  page.on("console", (message) => said.push(message.type() + ": " + message.text()));
  page.on("dialog", (dialog) => { said.push("dialog"); dialog.dismiss(); });
  page.on("request", (request) => {
    const url = request.url();
    if (url !== pathToFileURL(path.resolve(page_file)).href && !url.startsWith("data:")) requests.push(url.slice(0, 200));
  });
  await page.goto(pathToFileURL(path.resolve(page_file)).href, { waitUntil: "load" });
  const found = await page.evaluate(async () => {
    const out = { }, now = () => performance.now();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)));
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    out.first_paint = paint ? Math.round(paint.startTime) : null;
    out.nodes = document.querySelectorAll("*").length;
    const host = document.querySelector("#runs-table");
    if (host) {
      const buttons = [...host.querySelectorAll("th button")], column = (name) => buttons.findIndex((b) => b.textContent === name);
      const cells = (name) => [...host.querySelectorAll("tbody tr:not([aria-hidden])")].map((r) => r.cells[column(name)].textContent);
      const timed = (what) => { const start = now(); what(); document.body.offsetHeight; return Math.round(now() - start); };
      out.sort_number = timed(() => buttons[column("acc_w2s")].click());
      out.lowest = cells("acc_w2s").slice(0, 12).map(Number);
      out.sort_text = timed(() => buttons[column("method")].click());
      out.first_methods = cells("method").slice(0, 12);
      const field = host.querySelector("input");
      out.filter = timed(() => { field.value = "cpl"; field.dispatchEvent(new Event("input")); });
      out.filtered = host.querySelector("output").textContent;
      out.filtered_methods = cells("method").slice(0, 12);
      field.value = ""; field.dispatchEvent(new Event("input"));
      out.all = host.querySelector("output").textContent;
      const frame = host.querySelector(".window");
      frame.scrollTop = 1e9;
      await new Promise((done) => setTimeout(done, 150));
      const lines = host.querySelectorAll("tbody tr:not([aria-hidden])");
      out.last_line = Number(lines[lines.length - 1].getAttribute("aria-rowindex"));
      out.nodes_scrolled = document.querySelectorAll("*").length;
      frame.scrollTop = 0;
    }
    const choice = document.querySelector("#gallery select");
    if (choice) {
      out.gallery = document.querySelector("#gallery output").textContent;
      out.gallery_broken = [...document.querySelectorAll("#gallery img")].filter((i) => i.complete && !i.naturalWidth).length;
    }
    out.executed = document.documentElement.dataset.executed ?? null;
    out.too_wide = document.documentElement.scrollWidth - innerWidth;
    return out;
  });
  // everything unfolded, so that what is folded is looked at too
  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
  await new Promise((done) => setTimeout(done, 200));
  found.unfolded = await page.evaluate(() => [...document.querySelectorAll("[data-table]")].filter((h) => !h.firstChild).length);
  await page.evaluate(axe);
  found.axe = await page.evaluate(async () => (await axe.run(document)).violations.map((v) => v.id + " x" + v.nodes.length + " " + v.nodes[0].target));
  found.executed_unfolded = await page.evaluate(() => document.documentElement.dataset.executed ?? null);
  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = false; }));
  if (await page.$("#runs-table th button") && media === "screen") {
    // with the keyboard alone: to the first column's button, and sorted by it
    await page.evaluate(() => { document.activeElement.blur(); document.querySelector("#runs-table input").focus(); });
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    found.keyboard = await page.evaluate(() => document.activeElement.closest("th")?.getAttribute("aria-sort") ?? null);
  }
  if (shots) await page.screenshot({ path: `${shots}_${width}_${scheme}_${media}.png`, fullPage: true });
  console.log(JSON.stringify({ width, scheme, media, said, requests, ...found }));
  await page.close();
}
await browser.close();
