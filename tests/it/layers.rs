//! Who may name whom under `src/`: the floors of ARCHITECTURE.md, and which floor owns which library.

use std::collections::BTreeSet;
use std::path::Path;

/// Each module's floor; a module names only lower ones. What is not here (job, outcome, backoff ...) is the
/// ground: plain words, free to all.
const FLOORS: [(&str, u8); 11] = [
    ("cli", 4),
    ("testing", 4),
    ("api", 3),
    ("bench", 3),
    ("demo", 3),
    ("worker", 2),
    ("maintenance", 2),
    ("web", 2),
    ("store", 1),
    ("config", 1),
    ("handler", 1),
];

/// Libraries, and the only places that may name them.
const OWNERS: [(&str, &[&str]); 8] = [
    ("tokio_postgres", &["store/", "bench/", "testing/"]),
    ("deadpool_postgres", &["store/", "bench/"]),
    ("refinery", &["store/"]),
    ("clap", &["cli/"]),
    ("anyhow", &["cli/", "bench/", "demo/"]),
    ("figment", &["config/"]),
    ("axum", &["web/"]),
    ("std::env", &["config/", "embedded/environment.rs", "embedded/obtain.rs"]),
];

const LINES_MAX: usize = 400;
/// Longer than that today, and to be split; nothing may be added here.
const TOO_LONG: [&str; 0] = [];

/// The text without comments and without what is only compiled for tests.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The first words of all paths that begin with `crate::`.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    names.insert(word(&list[start..i]));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    names
}

fn floor(module: &str) -> u8 {
    FLOORS.iter().find(|(name, _)| *name == module).map_or(0, |(_, floor)| *floor)
}

/// What breaks the rules in these files; each is its path under `src/` and its text.
fn violations(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let for_tests = ["tests.rs", "testing.rs", "test_server.rs"].iter().any(|name| path.ends_with(name));
        if for_tests || path == "lib.rs" || path == "main.rs" {
            continue;
        }
        let code = code(text);
        let own = path.split(['/', '.']).next().unwrap_or(path);
        for name in named(&code) {
            let (mine, its) = (floor(own), floor(&name));
            if name != own && its > 0 && its >= mine {
                found.push(format!("{path} names crate::{name}, which is not below it"));
            }
        }
        for (library, owners) in OWNERS {
            if code.contains(&format!("{library}::")) && !owners.iter().any(|owner| path.starts_with(owner)) {
                found.push(format!("{path} names {library}, which belongs to {}", owners.join(", ")));
            }
        }
        let sql = ["\"select ", "\"insert into ", "\"update ", "\"delete from "];
        if !["store/", "bench/"].iter().any(|owner| path.starts_with(owner))
            && let Some(line) = code.lines().find(|line| sql.iter().any(|word| line.contains(word)))
        {
            found.push(format!("{path} holds SQL: {}", line.trim()));
        }
        let lines = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text).lines().count();
        if lines > LINES_MAX {
            found.push(format!("{path} has {lines} lines before its tests; {LINES_MAX} is the most"));
        }
    }
    found
}

fn files_under(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            files_under(&path, &format!("{name}/"), files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push((name, std::fs::read_to_string(&path).expect("UTF-8")));
        }
    }
}

#[test]
fn every_module_names_only_the_floors_below_it() {
    let mut files = Vec::new();
    files_under(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(files.len() > 50, "the sources are where they were");
    let found = violations(&files);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn each_sort_of_violation_is_found() {
    let long = "\n".repeat(LINES_MAX + 1);
    let planted = [
        ("store/a.rs", "use crate::worker::Settings;"),
        ("store/b.rs", "use crate::{\n    Job,\n    config::{Config, Log},\n};"),
        ("worker/c.rs", "fn f() { crate::maintenance::run() }"),
        ("handler/d.rs", "use crate::store::Store;"),
        ("job.rs", "use crate::cli::main;"),
        ("worker/e.rs", "use tokio_postgres::Client;"),
        ("store/f.rs", "use clap::Parser;"),
        ("cli/g.rs", "let home = std::env::var(\"HOME\");"),
        ("store/h.rs", "use figment::Figment;"),
        ("worker/i.rs", "let sql = \"select 1\";"),
        ("text.rs", &long),
    ];
    for (path, text) in planted {
        let found = violations(&[(path.to_owned(), text.to_owned())]);
        assert_eq!(found.len(), 1, "{path}: {found:?}");
    }
    let allowed = [
        ("cli/a.rs", "use crate::{config, store::Store, worker};\nuse clap::Parser;"),
        ("worker/b.rs", "use crate::store::Store;\nuse crate::worker::held;\nuse crate::{Job, text};"),
        ("config/c.rs", "// tokio_postgres::Config reads it: \"select 1\"\nuse figment::Figment;"),
        ("job.rs", "use crate::Backoff;\n#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}"),
        ("store/tests.rs", "use crate::config::Config;"),
    ];
    for (path, text) in allowed {
        assert_eq!(violations(&[(path.to_owned(), text.to_owned())]), [""; 0], "{path}");
    }
}
