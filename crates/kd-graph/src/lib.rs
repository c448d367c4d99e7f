//! Graphs traced from burn models.
