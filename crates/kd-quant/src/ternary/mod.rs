//! Ternary weights.

mod ttq;
mod twn;

pub use ttq::{Edge, Ttq};
pub use twn::Twn;
