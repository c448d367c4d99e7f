//! What quantisation did to a tensor and to every layer of a network, and which layer should get how many bits.

mod allocate;
mod layers;
mod measure;
mod mixed;
mod place;
mod report;
mod storage;

pub use allocate::{Choice, allocate};
pub use layers::{analyse, flip_rates};
pub use measure::{Distortion, flip_rate, saturation};
pub use mixed::{MixedBits, mixed_bits};
pub use report::{Analysis, LayerReport};
pub use storage::packed_bytes;
