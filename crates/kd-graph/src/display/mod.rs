//! Graphs as tables and pictures.
