//! The momentum of batch normalisations, which a forward pass in evaluation does not show.
//!
//! In training, burn computes `running * (1 - momentum) + batch * momentum`. A recorded (never executed) training pass has both factors as
//! literals.

use std::collections::HashMap;

use burn_capture::TensorId;
use burn_ir::{NumericOperationIr, OperationIr, ScalarIr};

use super::capture::Recording;

/// Momentum by the path of the running mean, for every one that the recorded training pass updates.
pub(super) fn momenta(recording: &Recording) -> HashMap<String, f64> {
    let mut scaled: HashMap<TensorId, (TensorId, f64)> = HashMap::new();
    let mut found: HashMap<TensorId, f64> = HashMap::new();
    for operation in &recording.operations {
        match operation {
            OperationIr::NumericFloat(_, NumericOperationIr::MulScalar(op)) => {
                if let ScalarIr::Float(factor) = op.rhs {
                    scaled.insert(op.out.id, (op.lhs.id, factor));
                }
            }
            OperationIr::NumericFloat(_, NumericOperationIr::Add(op)) => {
                if let (Some(&(running, _)), Some(&(_, momentum))) =
                    (scaled.get(&op.lhs.id), scaled.get(&op.rhs.id))
                {
                    found.entry(running).or_insert(momentum);
                }
            }
            _ => {}
        }
    }
    let held = recording.held.iter();
    held.filter_map(|held| Some((held.path.clone(), *found.get(&held.tensor)?))).collect()
}
