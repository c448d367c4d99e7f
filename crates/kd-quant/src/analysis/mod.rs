//! What quantisation did to a tensor, and which layer should get how many bits.

mod allocate;
mod measure;

pub use allocate::{Choice, allocate};
pub use measure::{Distortion, flip_rate, packed_bytes, saturation};
