//! One short text that stands for all the numbers of a module.

use burn::module::Module;
use burn_store::ModuleSnapshot;
use sha2::{Digest, Sha256};

/// Why a module's numbers could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the tensor `{path}` of the network: {message}")]
pub struct FingerprintError {
    /// Path of the tensor.
    pub path: String,
    /// What the device said.
    pub message: String,
}

/// sha256 over every tensor of a module, running statistics included: path, element type, shape and bytes, in the order of the paths.
///
/// Two modules have the same fingerprint when, and only when, they hold the same numbers under the same paths. Parameter ids do not count.
///
/// # Errors
/// [`FingerprintError`] when a tensor cannot be read back from its device.
pub fn fingerprint<M: Module>(module: &M) -> Result<String, FingerprintError> {
    let mut tensors = module.collect(None, None, false);
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Sha256::new();
    for tensor in tensors {
        let failed = |error: burn_store::burn_pack::Error| FingerprintError {
            path: tensor.name.clone(),
            message: error.to_string(),
        };
        let bytes = tensor.to_bytes().map_err(failed)?;
        // The length of every part goes in front of it, so that no two lists of tensors read the same.
        let head = format!(
            "{}:{}{:?}{:?}{}:",
            tensor.name.len(),
            tensor.name,
            tensor.dtype,
            tensor.shape,
            bytes.len()
        );
        hash.update(head.as_bytes());
        hash.update(&*bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig, LinearConfig};
    use burn::tensor::{Device, Tensor};

    #[test]
    fn the_same_numbers_have_the_same_fingerprint_whatever_their_parameter_ids() {
        let device = Device::flex();
        let first = LinearConfig::new(3, 2).init(&device);
        let second = LinearConfig::new(3, 2).init(&device);
        assert_ne!(fingerprint(&first).unwrap(), fingerprint(&second).unwrap());
        let mut record = second.clone();
        record.weight = burn::module::Param::from_tensor(first.weight.val());
        record.bias = first.bias.as_ref().map(|bias| burn::module::Param::from_tensor(bias.val()));
        assert_eq!(fingerprint(&first).unwrap(), fingerprint(&record).unwrap());
    }

    #[test]
    fn a_running_statistic_counts() {
        let device = Device::flex().autodiff();
        let norm: BatchNorm = BatchNormConfig::new(2).init(&device);
        let before = fingerprint(&norm.valid()).unwrap();
        norm.forward(Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 5.0]], &device));
        assert_ne!(before, fingerprint(&norm.valid()).unwrap());
    }
}
