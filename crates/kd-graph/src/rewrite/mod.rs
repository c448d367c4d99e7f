//! Rewrites: graphs that compute the same with less.

mod attention;
mod batch_norm;
mod common;
mod dead;
mod identity;
#[cfg(test)]
mod tests;

use std::fmt;

/// What a rewrite did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Names of the nodes that are gone, in execution order.
    pub removed: Vec<String>,
    /// Nodes to which the rewrite could not be applied, each with the reason.
    pub kept: Vec<(String, String)>,
}

impl fmt::Display for Rewritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.removed.as_slice() {
            [] => f.write_str("nothing removed")?,
            names => write!(f, "{} removed: {}", names.len(), names.join(", "))?,
        }
        self.kept.iter().try_for_each(|(name, reason)| write!(f, "\n{name} kept: {reason}"))
    }
}
