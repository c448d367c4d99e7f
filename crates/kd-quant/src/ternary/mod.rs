//! Ternary weights.

mod ttq;
mod twn;

pub use ttq::{Edge, InitialScales, Ttq};
pub use twn::Twn;
