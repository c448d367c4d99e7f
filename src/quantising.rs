//! Networks quantised while they train, and compared with what they were: what `kd quantize` does with a recipe.

mod settings;
mod study;

pub use settings::QuantizeSettings;
pub use study::{Quantised, quantize};
