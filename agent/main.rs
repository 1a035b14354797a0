//! The `tailrace` command.

fn main() {}
