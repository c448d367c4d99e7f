//! Networks quantised while they train, and compared with what they were: what `kd quantize` does with a recipe.

mod integer_form;
mod plan_file;
mod settings;
mod study;
#[cfg(test)]
mod tests;

pub use integer_form::IntegerForm;
pub use plan_file::{for_deployment, for_training, read_plan};
pub use settings::QuantizeSettings;
pub use study::{Quantised, quantize};
