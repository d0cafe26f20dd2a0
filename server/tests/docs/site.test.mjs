// The site that mdBook makes of docs/: every link in it leads to a page of the site, and to an anchor that is there.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { after, test } from "node:test";
import { root } from "./pages.mjs";
import { folder } from "./running.mjs";

const MDBOOK = process.env.MDBOOK ?? "mdbook";

function version() {
  try {
    return execFileSync(MDBOOK, ["--version"], { encoding: "utf8" });
  } catch {
    return null;
  }
}
const skip = version() ? false : "mdBook is missing; install it (cargo install mdbook), or name it in MDBOOK";

test("mdBook makes a site without dead links", { skip }, () => {
  const site = folder(after);
  execFileSync(MDBOOK, ["build", join(root, "docs"), "--dest-dir", site], { stdio: ["ignore", "inherit", "inherit"] });
  const pages = readdirSync(site, { recursive: true }).filter((name) => name.endsWith(".html") && !/(^|\/)(404|print|toc)\.html$/.test(name));
  const texts = new Map(pages.map((name) => [name, readFileSync(join(site, name), "utf8")]));
  const dead = [];
  let followed = 0;
  for (const [name, text] of texts) {
    const content = text.slice(text.indexOf("<main>"), text.indexOf("</main>"));
    for (const [, href] of content.matchAll(/(?:href|src)="([^"]+)"/g)) {
      if (/^[a-z]+:/.test(href)) continue;
      const [path, anchor] = href.split("#");
      const target = path === "" ? name : normalize(join(dirname(name), path));
      followed += 1;
      if (target.startsWith("..") || !existsSync(join(site, target))) dead.push(`${name}: ${href}`);
      else if (anchor && !texts.get(target)?.includes(`id="${decodeURIComponent(anchor)}"`)) dead.push(`${name}: ${href} has no such anchor`);
    }
  }
  assert.deepEqual(dead, []);
  assert.ok(texts.size > 20 && followed > 200, `${texts.size} pages with ${followed} links`);
  console.log(`${texts.size} pages of the site, ${followed} links`);
});
