//! What is removed as one: the second part of every method.

mod n_of_m;
mod two_of_four;
mod units;

pub use n_of_m::{n_of_m, n_of_m_square};
pub use two_of_four::{MaskSearch, transposable_two_of_four, two_of_four};
pub use units::{Pooling, Structure, Units};
