//! The `rowcrew` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    rowcrew::cli::main()
}
