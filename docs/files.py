#!/usr/bin/env python3
"""A preprocessor of mdBook. The pages link to files of the repository outside of docs/; the site gets a page for each."""

import json
import os
import re
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)#\s]+)((?:#[^)\s]*)?)\)")
LANGUAGES = {".yml": "yaml", ".json": "json", ".toml": "toml", ".py": "python", ".service": "ini"}


class Site:
    def __init__(self, root, pages):
        self.root = root
        # Files of the repository with a page, and the page's path in the site.
        self.paths = pages
        self.waiting = []

    def linked(self, text, source):
        """A page's text with links to pages of the site. `source` is the page's file in the repository."""

        def change(link):
            if ":" in link[1]:
                return link[0]
            target = os.path.normpath(os.path.join(os.path.dirname(source), link[1]))
            if not (self.root / target).is_file():
                return link[0]
            if target not in self.paths:
                self.add(target)
            path = os.path.relpath(self.paths[target], os.path.dirname(self.paths[source]) or ".")
            return f"]({path}{link[2]})"

        return LINK.sub(change, text)

    def add(self, target):
        docs, _, name = target.partition("/")
        if docs == "docs":
            # mdBook copies what is beside the pages.
            self.paths[target] = name
            return
        self.paths[target] = site_path(f"files/{target}" + ("" if target.endswith(".md") else ".md"))
        self.waiting.append(target)

    def page(self, source):
        """The page of a file outside of docs/."""
        text = (self.root / source).read_text()
        if source.endswith(".md"):
            content = self.linked(text, source)
        else:
            content = f"# {source}\n\n`````{LANGUAGES.get(Path(source).suffix, 'text')}\n{text}\n`````\n"
        return {"Chapter": {
            "name": source, "content": content, "number": None, "sub_items": [], "path": self.paths[source],
            "source_path": None, "parent_names": [],
        }}


def site_path(path):
    """mdBook calls the page of a README `index`."""
    return re.sub(r"(^|/)README\.md$", r"\1index.md", path)


def chapters(items):
    for item in items:
        if "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    context, book = json.load(sys.stdin)
    items = book["items"] if "items" in book else book["sections"]
    docs = Path(context["root"])
    found = list(chapters(items))
    pages = {f"{docs.name}/{chapter['source_path']}": site_path(chapter["path"]) for chapter in found}
    site = Site(docs.parent, pages)
    for chapter in found:
        chapter["content"] = site.linked(chapter["content"], f"{docs.name}/{chapter['source_path']}")
    items.append({"PartTitle": "Files"})
    while site.waiting:
        items.append(site.page(site.waiting.pop(0)))
    json.dump(book, sys.stdout)


main()
