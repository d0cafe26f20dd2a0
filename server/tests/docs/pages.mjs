// The fenced blocks of the pages for readers.

import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../../", import.meta.url));

const PAGES = [
  "README.md",
  "clients/js/README.md",
  ...readdirSync(`${root}docs`).filter((name) => name.endsWith(".md")).sort().map((name) => `docs/${name}`),
];

/**
 * Every page with its blocks. A block has the language and the role of its info string (```json sent: the role is
 * `sent`), its line, its text, and `file`: the last word in backticks of the line before it.
 */
export function pages() {
  return PAGES.map((name) => ({ name, blocks: blocks(name, readFileSync(root + name, "utf8")) }));
}

function blocks(page, text) {
  const found = [];
  let open = null;
  let before = "";
  for (const [at, line] of text.split("\n").entries()) {
    const fence = /^( *)```(.*)$/.exec(line);
    if (!fence) {
      if (open) open.lines.push(line.slice(open.indent));
      else if (line.trim() !== "") before = line;
      continue;
    }
    if (open) {
      found.push({ ...open, text: `${open.lines.join("\n")}\n` });
      open = null;
      continue;
    }
    const [language = "", ...role] = fence[2].trim().split(/\s+/);
    open = {
      page, language, role: role.join(" "), line: at + 1, indent: fence[1].length, lines: [],
      file: [...before.matchAll(/`([^`]+)`/g)].at(-1)?.[1],
    };
  }
  if (open) throw new Error(`${page}:${open.line} does not end`);
  return found;
}
