//! From a burn module to a graph.
