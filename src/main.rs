//! The `rowcrew` binary.

fn main() {}
