//! pullpass.
fn main() {}
