// The server under test, and Debian's Chromium, which playwright-core drives.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import WebSocket from "ws";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const BINARY = process.env.FANFARE_BIN ?? `${root}target/debug/fanfare`;
const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = PLACES.find((path) => path && existsSync(path));
const PICTURES = process.env.FANFARE_PICTURES ?? `${root}target/dashboard-pictures`;
const DEADLINE_MS = 30_000;

export const skip = executablePath
  ? false
  : "Chromium is missing; install it (Debian: apt-get install chromium) or set CHROMIUM";

/** Starts the binary, resolves with the output up to a line that matches, and ends the process after the tests. */
export async function startServer(after, args, ready) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FANFARE_")));
  const child = spawn(BINARY, [...args, "--log", "warn"], { stdio: ["ignore", "pipe", "inherit"], env });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  after(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    ended.then((code) => reject(new Error(`the server ended with ${code}`)));
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      const found = ready.exec(text);
      if (found) resolve(Object.assign(found, { pid: child.pid }));
    });
  });
}

/** Starts a server with the test's configuration. Resolves with the addresses of both listeners, and the process. */
export async function startConfigured(after, config) {
  const folder = mkdtempSync(join(tmpdir(), "fanfare-dashboard-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "fanfare.toml");
  writeFileSync(file, config);
  const ready = /listening on (\S+)\nadmin on (\S+)\n/;
  const found = await startServer(after, ["--config", file], ready);
  return { data: found[1], admin: found[2], pid: found.pid };
}

export async function startBrowser(after) {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  after(() => browser.close());
  return browser;
}

/** A page that collects its errors, refused requests and requests to other hosts in `faults`. */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  const { hostname } = new URL(url);
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (asked.protocol !== "data:" && asked.hostname !== hostname) faults.push(`asked ${request.url()}`);
  });
  await page.goto(url);
  return { page, context, faults };
}

const AXE = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

/** The serious and critical violations that axe-core finds. */
export async function grave(page) {
  // The page's policy allows no foreign script, but the debugger's scripts are not subject to the policy.
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Runtime.evaluate", { expression: AXE });
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).slice(0, 3).join(" ")}`);
}

/** Keeps a picture of the page as an artefact. */
export async function picture(page, name) {
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: `${PICTURES}/${name}.png` });
}

/** The CPU time of a process in milliseconds. Linux counts it in ticks of 10 ms. */
export function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** A client that answers commands one by one, and keeps its received frames. */
export async function connectClient(t, url, join) {
  const socket = new WebSocket(url);
  t.after(() => socket.terminate());
  const frames = [];
  const waiting = [];
  const closed = new Promise((resolve) => socket.on("close", resolve));
  socket.on("message", (data) => {
    frames.push(JSON.parse(data));
    waiting.forEach((look) => look());
  });
  const until = (accept) =>
    new Promise((resolve) => {
      const look = () => {
        const found = frames.find(accept);
        if (found) resolve(found);
      };
      waiting.push(look);
      look();
    });
  let last = 0;
  const ask = (command) => {
    last += 1;
    const id = last;
    socket.send(JSON.stringify({ ...command, id }));
    return until((frame) => frame.id === id);
  };
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  if (join !== undefined) await ask({ type: "join", channel: join });
  return { ask, until, closed, frames, socket };
}

/** Sends a request without a browser. Returns the answer's status and headers. */
export function plainRequest(admin, path, { method = "GET", headers = {}, body } = {}) {
  const [hostname, port] = admin.split(":");
  return new Promise((resolve, reject) => {
    // A connection of its own: the console is the first request of a connection.
    const asked = request({ hostname, port, path, method, headers, agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}
