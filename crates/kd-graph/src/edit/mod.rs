//! Changing a graph without breaking it.
