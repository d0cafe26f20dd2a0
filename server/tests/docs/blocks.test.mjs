// Every fenced block of every page for readers is run: commands and programs are executed against servers that the test
// starts, configurations are read by `fanfare check`, frames are sent and compared with what comes. README.md of this
// folder lists the languages. A language or a role that is not listed fails.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after as atEnd, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { commands, excuse, runCommands } from "./commands.mjs";
import { roles, values } from "./json.mjs";
import { runComponent, runProgram } from "./programs.mjs";
import { pages, root } from "./pages.mjs";
import { CLIENT_KEY, SERVER_KEY, connect, environment, fanfare, run, startServer, workplace } from "./running.mjs";
import { manifests } from "./yaml.mjs";

/** Blocks that other tests run: the place of a block, the file of the test, and words of the test that name the block. */
const ELSEWHERE = [
  ["docs/TRIGGERS.md", "python", "server/tests/blackbox/test_http_triggers.py", 'recipe("Recipe: persist by http"'],
];

/** What ends with the tests, and not with the test that started it: servers and folders of pages. */
const endings = [];
const after = (ending) => endings.push(ending);
atEnd(async () => {
  for (const ending of endings.reverse()) await ending();
});

const tally = { run: 0, excused: [] };
const count = (block, why) => (why ? tally.excused.push(`${at(block)}: ${why}`) : (tally.run += 1));
const at = ({ page, line, language, role }) => `${page}:${line} ${[language, role].filter(Boolean).join(" ")}`;

/** What the blocks of a page share: a folder, a server, a session, and what the last commands printed. */
class Page {
  constructor(blocks) {
    this.blocks = blocks;
    this.place = workplace(after);
    this.output = "";
  }
  async parts() {
    this.server ??= await startServer(after);
    this.session ??= await connect(after, this.server);
    return this;
  }
}

const languages = {
  async sh(block, page, after) {
    const all = commands(block.text);
    const wanted = all.filter((command) => !excuse(command));
    for (const command of all) if (excuse(command)) count(block, `${command}: ${excuse(command)}`);
    if (wanted.length === 0) return "nothing but excused commands";
    for (const { language, file, text } of page.blocks) if (language === "js" && file) writeFileSync(join(page.place, file), text);
    for (const { text } of page.blocks.filter(isPlan)) {
      const name = /^# (\S+\.toml):/.exec(text)?.[1];
      if (name) writeFileSync(join(page.place, name), smallPlan(text));
    }
    page.output = await runCommands(after, wanted, { place: page.place, server: (await page.parts()).server });
  },

  text(block, page) {
    if (block.role === "") return "a drawing or an output";
    assert.equal(block.role, "output");
    const mask = (text) => text.trim().replaceAll(/\d+(\.\d+)?/g, "0");
    assert.equal(mask(page.output), mask(block.text));
  },

  async json(block, page, after) {
    const check = roles[block.role];
    assert.ok(check, `a block in JSON says what it is: ${Object.keys(roles).join(", ")}`);
    await check(after, values(block.text), () => page.parts());
  },

  async toml(block, page, after) {
    if (isPlan(block)) return runPlan(block, await page.parts(), after);
    await checkConfiguration(block, page, after);
  },

  async js(block, page, after) {
    if (/^import .* from "fanfare/m.test(page.blocks.find(({ language }) => language === "js").text)) {
      // The blocks of the page are one program, which the first of them runs.
      if (page.hasRun) return;
      page.hasRun = true;
      const text = page.blocks.filter(({ language }) => language === "js").map((found) => found.text).join("\n");
      return runProgram(after, text, await page.parts());
    }
    for (const hook of [...block.text.matchAll(/^export (?:async )?function (\w+)/gm)].map((found) => found[1])) {
      writeFileSync(join(page.place, "trigger.js"), block.text);
      const args = ["trigger", "run", "trigger.js", "--action", hook, "--payload", '{"text":"hello"}'];
      const { status, output } = await fanfare(after, args, { cwd: page.place, env: environment(page.place) });
      assert.equal(status, 0, output);
      assert.match(output, /^verdict: (pass|replace)/m);
    }
  },

  jsx: async (block, page, after) => runComponent(after, block.text, await page.parts()),

  ts: async (block, page, after) => runProgram(after, block.text, await page.parts(), "ts"),

  python(block) {
    const [, , file, words] = ELSEWHERE.find(([page, language]) => page === block.page && language === block.language) ?? [];
    assert.ok(file, "no test runs this block");
    assert.ok(readFileSync(root + file, "utf8").includes(words));
    return `${file} runs it`;
  },

  async yaml(block, page, after) {
    const documents = parseAllDocuments(block.text);
    for (const { errors } of documents) assert.deepEqual(errors, []);
    assert.ok(manifests[block.role], `a block in YAML says what it is: ${Object.keys(manifests).join(", ")}`);
    for (const document of documents) await manifests[block.role](after, document.toJS(), await page.parts());
  },
};

const isPlan = ({ language, text }) => language === "toml" && text.includes("[[phase]]");

/** A plan of the load generator with small numbers. */
function smallPlan(text) {
  const largest = { duration: 0.4, windows: 1, warmup: 0.1, subscribers: 8, connections: 1100, rate: 20, cycles: 2 };
  return text.replaceAll(/\b(\w+) = (\d+)\b/g, (all, key, value) => (key in largest ? `${key} = ${Math.min(value, largest[key])}` : all));
}

async function runPlan(block, { place, server }, after) {
  // A plan with a name is run by the commands that name it.
  if (/^# \S+\.toml:/.test(block.text)) return;
  writeFileSync(join(place, "plan.toml"), smallPlan(block.text));
  const args = ["mix", "plan.toml", "--url", `ws://${server.address}`, "--key", CLIENT_KEY];
  const { status, output } = await run(after, "fanfare-loadgen", args, { cwd: place, env: environment(place) });
  assert.ok([0, 3].includes(status), `${status}: ${output}`);
}

/** A part of a configuration is completed by the keys of its apps, the variables and the files that it names. */
async function checkConfiguration(block, { place, blocks }, after) {
  let text = block.text;
  const variables = {};
  for (const [, name] of text.matchAll(/_env = "(\w+)"/g)) variables[name] = "a secret of the tests, long enough for HS256";
  for (const [, name] of text.matchAll(/file = "([\w.]+\.js)"/g)) {
    const script = blocks.find(({ language, file }) => language === "js" && file === name);
    assert.ok(script, `${name} is not on the page`);
    writeFileSync(join(place, name), script.text);
  }
  const apps = new Set([...text.matchAll(/^\[+apps\.(\w+)/gm)].map((found) => found[1]));
  for (const app of apps) {
    const keys = `client_keys = ["${CLIENT_KEY}"]\nserver_keys = ["${SERVER_KEY}"]\n`;
    if (!text.includes(`[apps.${app}]\n`)) text = `[apps.${app}]\n${keys}\n${text}`;
    else if (!/client_keys? =/.test(text)) text = text.replace(`[apps.${app}]\n`, `[apps.${app}]\n${keys}`);
  }
  if (apps.size === 0) text = `${text}\n[apps.default]\nclient_key = "${CLIENT_KEY}"\n`;
  const data = join(place, "data");
  mkdirSync(data, { recursive: true });
  text = text.replace(/^data_dir = ".*"$/m, `data_dir = "${data}"`);
  writeFileSync(join(place, "part.toml"), text);
  const { status, output } = await fanfare(after, ["--config", "part.toml", "check"], { cwd: place, env: environment(place, variables) });
  assert.equal(status, 0, output);
}

for (const { name, blocks } of pages()) {
  const page = blocks.length > 0 ? new Page(blocks) : null;
  for (const block of blocks) {
    test(at(block), async (t) => {
      const check = languages[block.language];
      assert.ok(check, `blocks in ${block.language || "no language"} are not known; README.md of the tests lists the languages`);
      const why = await check(block, page, (ending) => t.after(ending));
      count(block, why);
      if (why) t.diagnostic(`excused: ${why}`);
    });
  }
}

test("blocks were run, and few are excused", () => {
  console.log(`${tally.run} blocks were run, ${tally.excused.length} blocks and commands are excused:`);
  for (const line of tally.excused) console.log(`  ${line}`);
  assert.ok(tally.run > 45, `${tally.run} were run`);
});
