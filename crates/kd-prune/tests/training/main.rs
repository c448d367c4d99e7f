//! Hooks that make networks sparse while they train: what holds at every step, and that a resumed run is the same as one never stopped.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod masks;
mod sparse;
mod surgery;
