//! What is removed as one: the second part of every method.

mod n_of_m;
mod units;

pub use n_of_m::{n_of_m, n_of_m_square};
pub use units::{Pooling, Structure, Units};
