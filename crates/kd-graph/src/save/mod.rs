//! Graphs as files.
