//! What the importer of symbolic traces makes.

use std::collections::BTreeMap;

use kd_graph::Graph;

/// A graph, and which layers it has.
pub struct Network {
    pub graph: Graph,
    /// Names and types.
    #[expect(dead_code, reason = "the importer fills it in for another harness")]
    pub layers: BTreeMap<String, String>,
}
