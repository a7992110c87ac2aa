//! The handlers in `examples/handlers`, each on its interpreter.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use crate::support::{Crew, Db, Scratch};

/// Each example: its file, what says whether its interpreter is here, and what runs it; nothing for Go, which is built.
const EXAMPLES: [(&str, &[&str], &[&str]); 7] = [
    ("handler.py", &["python3", "--version"], &["python3"]),
    ("handler_batch.py", &["python3", "--version"], &["python3"]),
    ("handler.js", &["node", "--version"], &["node"]),
    ("handler.rb", &["ruby", "--version"], &["ruby"]),
    ("handler.go", &["go", "version"], &[]),
    ("handler.pl", &["perl", "-MJSON::PP", "-e1"], &["perl"]),
    ("handler.sh", &["sh", "-c", "exit"], &["sh"]),
];

fn is_here(probe: &[&str]) -> bool {
    let mut command = Command::new(probe[0]);
    let status = command.args(&probe[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Builds a Go program; answers where it is.
fn built(source: &str, program: String) -> String {
    let output = Command::new("go").args(["build", "-o", &program, source]).output().expect("go runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

#[tokio::test]
async fn every_example_handler_runs_jobs_and_says_why_one_failed() {
    let folder = format!("{}/examples/handlers", env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new();
    let mut config = String::new();
    let mut kinds = Vec::new();
    for (file, probe, run) in EXAMPLES {
        let path = format!("{folder}/{file}");
        let lines = std::fs::read_to_string(&path).expect("an example").lines().count();
        assert!(lines <= 15, "{file} has {lines} lines");
        if !is_here(probe) {
            eprintln!("{file} is not tried: {} is not installed", probe[0]);
            continue;
        }
        let path = if run.is_empty() { built(&path, scratch.path(file)) } else { path };
        let words: Vec<_> = run.iter().copied().chain([path.as_str()]).collect();
        let _ = writeln!(
            config,
            "[handlers.\"{file}\"]\ntype = \"process\"\ncommand = {words:?}\nmax_attempts = 1\n"
        );
        kinds.push(file);
    }
    assert!(kinds.contains(&"handler.sh"), "sh is everywhere");
    let db = Db::new().await;
    let _crew = Crew::start(&db, &config).await;
    for kind in kinds {
        let good = db.insert_many(kind, "jsonb_build_object('n', n)", 20).await;
        let bad = db.insert(kind, r#"{"m": 1}"#).await;
        db.until(&format!("not exists (select from rowcrew.jobs where kind = '{kind}')")).await;
        let doubled = format!(
            "select count(*) from rowcrew.finished_jobs
            where kind = '{kind}' and (result ->> 'double')::int = 2 * (payload ->> 'n')::int"
        );
        let errors: Vec<String> = db
            .all(&format!(
                "select format('%s: %s', id, last_error) from rowcrew.dead_jobs where kind = '{kind}'"
            ))
            .await;
        assert_eq!(db.one::<i64>(&doubled).await, good.len() as i64, "{kind}: {errors:?}");
        assert_eq!(errors.len(), 1, "{kind}: {errors:?}");
        assert!(
            errors[0].starts_with(&format!("{bad}: ")) && !errors[0].contains("child process"),
            "{errors:?}"
        );
    }
}
