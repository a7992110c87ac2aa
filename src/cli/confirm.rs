//! Asks before something is deleted for good.

use std::io::{IsTerminal, Write};

use super::Usage;

/// Whether to go on: `--yes`, or a yes on the terminal. Without a terminal to ask on, `--yes` is needed.
pub(super) fn confirm(yes: bool, question: &str) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Usage(format!("{question} There is no terminal to ask on: give --yes to do it.")).into());
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let sure = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if !sure {
        eprintln!("nothing was deleted");
    }
    Ok(sure)
}
