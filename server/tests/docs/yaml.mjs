// Blocks in YAML, which are files of other programs. What they say of Fanfare is checked.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { runCommands } from "./commands.mjs";
import { root } from "./pages.mjs";
import { fanfare } from "./running.mjs";

export const manifests = {
  /** A pod: its probes are answered, its ports are those of the server's defaults, and it may drain. */
  async pod(after, { spec }, { server, place }) {
    const [{ args, ports, readinessProbe, livenessProbe, lifecycle }] = spec.containers;
    for (const { httpGet } of [readinessProbe, livenessProbe]) {
      assert.equal(httpGet.port, "admin");
      assert.equal((await fetch(`http://${server.admin}${httpGet.path}`)).status, 200);
    }
    assert.equal(args[0], "--config");
    const { output } = await fanfare(after, ["--print-config"], { cwd: place, env: { PATH: process.env.PATH } });
    for (const { containerPort } of ports) assert.ok(output.includes(`127.0.0.1:${containerPort}`), `${containerPort}`);
    const ms = (key) => Number(new RegExp(`^${key} = (\\d+)`, "m").exec(output)[1]);
    const draining = (ms("drain_spread_ms") + ms("drain_ms")) / 1000;
    assert.ok(spec.terminationGracePeriodSeconds > lifecycle.preStop.sleep.seconds + draining);
  },

  /** A step of a GitHub workflow with the action of this repository. */
  async step(after, [{ uses, with: given }]) {
    const folder = /OWNER\/REPOSITORY\/(.+)@/.exec(uses)[1];
    const { inputs } = parse(readFileSync(`${root}${folder}/action.yml`, "utf8"));
    for (const name of Object.keys(given)) assert.ok(name in inputs, `the action has no input ${name}`);
    for (const [name, { required }] of Object.entries(inputs)) assert.ok(!required || name in given, `${name} is missing`);
  },

  /** A job of GitLab: the generator's command runs. */
  async job(after, { load }, page) {
    const script = load.script.join("\n").replaceAll("\\\n", " ");
    const [wanted] = /fanfare-loadgen mix [^|\n]+/.exec(script);
    const command = wanted.replace(' --server-pid "$SERVER"', "").replaceAll("$run", "1").trim();
    await runCommands(after, ["node server.mjs &", command], page);
    for (const path of load.artifacts.paths) assert.ok(script.includes(path.replace("*", "$run")), path);
  },
};
