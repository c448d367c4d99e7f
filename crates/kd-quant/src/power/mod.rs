//! Weights that are powers of two, or few of them added: multiplication becomes shifting.

mod apot;
mod shift;

pub use apot::{Apot, apot_levels, power_levels};
pub use shift::{FixedPoint, PowerOfTwo, ShiftWeight};
