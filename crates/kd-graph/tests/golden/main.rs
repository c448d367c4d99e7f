//! Groups of pruning against those that a public reference implementation found.
fn main() {}
