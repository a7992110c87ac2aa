//! The program of `process`, and the bare pipes that are its floor.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{CHILDREN, IN_HAND};

/// The example of the documentation.
const PYTHON: &str = include_str!("../../../examples/handlers/handler.py");
/// Where there is no Python: the same protocol, and always the same answer.
const SHELL: &str = r#"
while IFS= read -r line || [ -n "$line" ]; do
    id=${line#*:}
    echo "{\"id\":${id%%,*},\"ok\":{\"double\":2}}"
done"#;

/// What runs the jobs.
pub(super) enum Program {
    /// The interpreter itself: what is called python3 may be a script that looks for it.
    Python(String),
    Shell,
}

/// An answer of a child.
#[derive(Deserialize)]
struct Answer {
    id: i64,
    ok: Option<IgnoredAny>,
}

impl Program {
    /// Python where it is installed, else sh.
    pub(super) fn find() -> Self {
        let path = Command::new("python3").args(["-c", "import json, sys; print(sys.executable)"]).output();
        let path = path.ok().filter(|output| output.status.success());
        match path.and_then(|output| String::from_utf8(output.stdout).ok()) {
            Some(path) if !path.trim().is_empty() => Self::Python(path.trim().to_owned()),
            _ => Self::Shell,
        }
    }

    pub(super) fn argv(&self) -> [&str; 3] {
        match self {
            Self::Python(path) => [path, "-c", PYTHON],
            Self::Shell => ["sh", "-c", SHELL],
        }
    }

    pub(super) fn words(&self) -> &'static str {
        match self {
            Self::Python(_) => "examples/handlers/handler.py",
            Self::Shell => "a loop in sh, for there is no python3 here",
        }
    }

    /// How many jobs a second the children do at the end of bare pipes.
    pub(super) async fn piped(&self, jobs: i64) -> anyhow::Result<f64> {
        let mut pipes = Vec::new();
        for _ in 0..CHILDREN {
            pipes.push(Pipe::open(self.argv())?);
        }
        let each = jobs / CHILDREN as i64;
        tokio::task::spawn_blocking(move || {
            for pipe in &mut pipes {
                pipe.work(1)?;
            }
            let began = Instant::now();
            std::thread::scope(|scope| {
                let works: Vec<_> = pipes.iter_mut().map(|pipe| scope.spawn(|| pipe.work(each))).collect();
                works.into_iter().try_for_each(|work| work.join().expect("no panic"))
            })?;
            Ok((each * CHILDREN as i64) as f64 / began.elapsed().as_secs_f64())
        })
        .await?
    }
}

/// A child and both of its pipes; ended when dropped.
struct Pipe {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Pipe {
    fn open(argv: [&str; 3]) -> anyhow::Result<Self> {
        let mut child = Command::new(argv[0])
            .args(&argv[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", argv[0]))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("both are piped")
        };
        Ok(Self { child, stdin, stdout: BufReader::with_capacity(64 * 1024, stdout) })
    }

    /// Keeps so many jobs in the child's hand until all are answered. Lines that are to go together go in one write.
    fn work(&mut self, jobs: i64) -> anyhow::Result<()> {
        let (mut sent, mut answered) = (0, 0);
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while answered < jobs {
            while sent < jobs && sent - answered < IN_HAND as i64 {
                sent += 1;
                writeln!(
                    lines,
                    r#"{{"id":{sent},"kind":"process","queue":"default","attempt":1,"timeout_ms":900000,"payload":{{"n":{sent}}}}}"#
                )?;
            }
            self.stdin.write_all(&lines)?;
            lines.clear();
            loop {
                line.clear();
                self.stdout.read_until(b'\n', &mut line)?;
                let answer: Answer = serde_json::from_slice(&line).context("an answer of a child")?;
                ensure!(answer.ok.is_some() && answer.id <= sent, "job {} failed in a child", answer.id);
                answered += 1;
                if !self.stdout.buffer().contains(&b'\n') {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
