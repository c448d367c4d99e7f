//! Graphs as trainable modules.
