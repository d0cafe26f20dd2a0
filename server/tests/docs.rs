//! The pages of docs/ are correct: every link leads to a file and a heading, the site has every page, and
//! every command names an existing script, package, npm folder or subcommand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use fanfare_server::args::Args;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("server is in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page for readers.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).expect("there are docs");
    let mut pages: Vec<PathBuf> = docs.map(|entry| entry.expect("it can be read").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.extend([root().join("README.md"), root().join("clients/js/README.md")]);
    assert!(pages.len() > 10, "the pages are here");
    pages
}

/// The lines of a page outside of code, and the lines within code.
fn lines(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut prose, mut code, mut is_code) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            code.push(line);
        } else {
            prose.push(line);
        }
    }
    (prose, code)
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let (prose, _) = lines(text);
    let targets = prose.iter().flat_map(|line| line.split("](").skip(1));
    targets.filter_map(|rest| rest.split(')').next()).map(String::from).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = lines(text);
    let headings = prose.iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &&str| -> String {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            let is_there = anchor.is_empty() || anchors(&read(&target)).contains(anchor);
            assert!(is_there, "{}: {link} names no heading", page.display());
        }
    }
}

#[test]
fn the_site_has_every_page_once() {
    let summary = read(&root().join("docs/SUMMARY.md"));
    let mut listed = links(&summary);
    listed.sort();
    let mut pages: Vec<String> = pages()
        .iter()
        .filter(|page| page.parent().is_some_and(|folder| folder.ends_with("docs")))
        .filter_map(|page| page.file_name().and_then(|name| name.to_str()).map(String::from))
        .filter(|name| name != "SUMMARY.md")
        .collect();
    pages.sort();
    assert_eq!(listed, pages);
    let book: toml::Table = read(&root().join("docs/book.toml")).parse().expect("it is TOML");
    assert_eq!(book["book"]["src"].as_str(), Some("."));
}

/// The packages of the workspace, and their binaries' names.
fn packages() -> Vec<String> {
    let members = ["core", "server", "loadgen", "benches"];
    let name = |member: &str| {
        let manifest: toml::Table =
            read(&root().join(member).join("Cargo.toml")).parse().expect("it is TOML");
        manifest["package"]["name"].as_str().expect("a package has a name").to_owned()
    };
    members.map(name).into()
}

/// The words of a command, without its variables, its comment and its redirections.
fn words(line: &str) -> Vec<&str> {
    let command = line.split(" #").next().unwrap_or_default();
    let words = command.split_whitespace().take_while(|word| !["&", "&&", "|", ">", "\\"].contains(word));
    words.skip_while(|word| word.contains('=') && !word.starts_with('-')).collect()
}

#[test]
fn every_command_names_what_there_is() {
    let packages = packages();
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for line in lines(&text).1 {
            let words = words(line);
            let Some(first) = words.first() else { continue };
            let said = || format!("{}: {line}", page.display());
            if first.starts_with("scripts/") {
                assert!(root().join(first).is_file(), "{}", said());
                checked += 1;
            }
            if *first == "cargo" {
                let named = words.windows(2).filter(|pair| ["--package", "-p"].contains(&pair[0]));
                for pair in named {
                    assert!(packages.iter().any(|package| package == pair[1]), "{}", said());
                    checked += 1;
                }
                if words.get(1) == Some(&"run") && !line.contains("--package") {
                    let arguments = words.iter().skip_while(|word| **word != "--").skip(1);
                    let line = std::iter::once(&"fanfare").chain(arguments);
                    assert!(Args::try_parse_from(line).is_ok(), "{}", said());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 10, "there are commands: {checked}");
}

/// The cells of the tables of a text, by the first cell of each row and the head of each column.
fn cells(text: &str) -> BTreeMap<(String, String), String> {
    let (mut found, mut head) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            head.clear();
            continue;
        };
        let row: Vec<&str> = row.split('|').map(str::trim).collect();
        if head.is_empty() {
            head = row;
            continue;
        }
        for (column, cell) in head.iter().zip(&row).skip(1) {
            found.insert((row[0].to_owned(), (*column).to_owned()), (*cell).to_owned());
        }
    }
    found
}

#[test]
fn figures_beside_other_servers_are_the_same_on_both_pages() {
    let readme = cells(&read(&root().join("README.md")));
    let measured = cells(&read(&root().join("docs/BENCHMARKING.md")));
    let shown: Vec<_> = readme.iter().filter(|((_, column), _)| is_server(column)).collect();
    assert!(shown.len() >= 30, "the README has a table of servers: {}", shown.len());
    for (place, figure) in shown {
        assert_eq!(measured.get(place), Some(figure), "{place:?}");
    }
}

fn is_server(column: &str) -> bool {
    ["Fanfare", "uWebSockets", "NATS", "Socket.IO", "Centrifugo"].contains(&column)
}
