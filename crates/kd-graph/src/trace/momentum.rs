//! The momentum of batch normalisations, which a forward pass in evaluation does not show.
//!
//! In training burn computes, with momentum $m$ and the mean $s$ of the batch, $r' = (1 - m)\, r + m\, s$. A copy of the model whose running means
//! are all set to $r = 2^{60}$ runs one training pass. The batch's share is then below the precision of $r'$, and $r'/r = (1 - m)^k$ exactly,
//! where $k$ is how often the layer was called. Batch statistics do not depend on $r$, so the pass is as any other; layers that draw random
//! numbers stay switched off, so that the device's generator is left where it is.

use std::collections::HashMap;

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor};

use super::quiet::quietly;
use super::{TensorMap, Tensors};

/// As large as possible with the square of its rounding error still representable.
const PROBE: f64 = (1u64 << 60) as f64;

/// Momentum by the path of the running mean. `calls` says how often each is used in one pass; those of the result may be fewer: frozen layers,
/// and all of them if the model cannot run in training form (then the reason is the error).
pub(super) fn momenta<M, I, O>(
    model: &M,
    sample: I,
    forward: impl Fn(&M, I) -> O,
    calls: &HashMap<String, usize>,
) -> Result<HashMap<String, f64>, String>
where
    M: Module,
    I: Tensors,
{
    quietly(|| {
        let mut probe = Probe { calls, path: Vec::new() };
        let model = model.valid().train().map(&mut probe);
        let device = model.devices().into_iter().next().map(Device::without_autodiff);
        drop(forward(&model, sample.map(&mut Autodiff { device })));
        let mut read = ReadMeans { calls, path: Vec::new(), momenta: HashMap::new() };
        // burn merges the last update of running statistics on the way to evaluation.
        model.valid().visit(&mut read);
        read.momenta
    })
    .map_err(|panicked| panicked.message)
}

/// The momentum that leaves this share of the old value after `calls` updates, with as few digits as single precision allows to tell.
fn momentum(kept: f64, calls: usize) -> Option<f64> {
    if !(0.0..1.0).contains(&kept) {
        return None;
    }
    let power = i32::try_from(calls).ok()?;
    let exact = 1.0 - kept.powf(1.0 / f64::from(power));
    let tolerance = f64::from(f32::EPSILON) * f64::from(power);
    let decimal = (1..=9).map(|digits| {
        let scale = 10f64.powi(digits);
        (exact * scale).round() / scale
    });
    let fits = |momentum: &f64| ((1.0 - momentum).powi(power) - kept).abs() <= tolerance && *momentum > 0.0;
    Some(decimal.into_iter().find(fits).unwrap_or(exact))
}

/// Sets running means and leaves only batch normalisations switched to training.
struct Probe<'a> {
    calls: &'a HashMap<String, usize>,
    path: Vec<(String, String)>,
}

impl ModuleMapper for Probe<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path: Vec<_> = self.path.iter().map(|(name, _)| name.as_str()).collect();
        match self.calls.contains_key(&path.join(".")) {
            true => param.map(|mean| mean.zeros_like().add_scalar(PROBE)),
            false => param,
        }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        match self.path.last() {
            Some((_, container)) if container == "Struct:BatchNorm" => flag,
            _ => flag.with_value(false),
        }
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
}

struct ReadMeans<'a> {
    calls: &'a HashMap<String, usize>,
    path: Vec<String>,
    momenta: HashMap<String, f64>,
}

impl ModuleVisitor for ReadMeans<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let Some(&calls) = self.calls.get(&path) else { return };
        let mean = param.val();
        if !matches!(mean.dtype(), DType::F32 | DType::F64) {
            return;
        }
        let first = mean.into_data().iter::<f64>().next();
        if let Some(momentum) = first.and_then(|mean| momentum(mean / PROBE, calls)) {
            self.momenta.insert(path, momentum);
        }
    }

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
}

/// Moves the sample to where the model trains.
struct Autodiff {
    /// The one below automatic differentiation.
    device: Option<Device>,
}

macro_rules! moved {
    ($name:ident, $kind:ty) => {
        fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
            match &self.device {
                Some(device) => Tensor::from_inner(tensor.without_autodiff().to_device(device)),
                None => tensor,
            }
        }
    };
}

impl TensorMap for Autodiff {
    moved!(float, burn::tensor::Float);
    moved!(int, Int);
    moved!(bool, Bool);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_momentum_is_the_shortest_decimal_that_leaves_what_was_kept() {
        for wanted in [0.1, 0.01, 0.003, 0.25, 0.9, 0.37] {
            for calls in [1, 2, 3] {
                let kept = (0..calls).fold(1f32, |kept, _| kept * (1.0 - wanted) as f32);
                assert_eq!(momentum(f64::from(kept), calls), Some(wanted), "{wanted} in {calls} calls");
            }
        }
    }

    #[test]
    fn a_mean_that_did_not_move_says_nothing() {
        assert_eq!(momentum(1.0, 1), None);
        assert_eq!(momentum(f64::NAN, 1), None);
    }
}
