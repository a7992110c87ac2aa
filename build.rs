//! Tells cargo that a new migration changes the program: the macro that embeds them does not.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=sql");
}
