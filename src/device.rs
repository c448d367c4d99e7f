//! Where tensors live, chosen by name at run time.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

/// A device by its name: `flex`, `ndarray`, `wgpu`, `vulkan` or `cuda`, and for the last three optionally an index, as in `cuda:1`.
///
/// Every backend is a Cargo feature of this package; several can be compiled in. Without an index, a GPU backend takes the best device it finds.
/// `ndarray` is deprecated upstream and about 19 times slower than `flex` at training a convolutional network: it stays for those who need it.
///
/// ```
/// use kd::DeviceName;
///
/// let device = "flex".parse::<DeviceName>()?.open();
/// assert!(!device.is_autodiff());
/// let error = "flux".parse::<DeviceName>().unwrap_err().to_string();
/// assert_eq!(error, "there is no device `flux`; the devices are: flex, ndarray, wgpu[:INDEX], vulkan[:INDEX], cuda[:INDEX]");
/// # Ok::<(), kd::DeviceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceName {
    name: &'static str,
    index: Option<usize>,
    open: fn(Option<usize>) -> Device,
}

/// Why a device's name was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No backend of this name.
    #[error("there is no device `{name}`; the devices are: {}", known().join(", "))]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The backend exists, but was left out of this build.
    #[error("device `{name}` is not compiled in; build with `--features {name}`")]
    NotCompiledIn {
        /// The backend.
        name: &'static str,
    },
    /// Something other than an index behind the colon.
    #[error("`{name}:{index}` is no device: {allowed}")]
    Index {
        /// The backend.
        name: &'static str,
        /// What was given.
        index: String,
        /// What would be accepted.
        allowed: &'static str,
    },
}

/// One way to compute.
struct Backend {
    name: &'static str,
    indexed: bool,
    open: Option<fn(Option<usize>) -> Device>,
}

/// Declares the backends: name (also the Cargo feature), whether there can be several devices, how to open one.
macro_rules! backends {
    ($($name:literal, $indexed:literal, $open:expr;)*) => {
        // burn has deprecated `ndarray`; users still ask for it.
        #[allow(deprecated)]
        const BACKENDS: &[Backend] = &[$(Backend {
            name: $name,
            indexed: $indexed,
            #[cfg(feature = $name)]
            open: Some($open),
            #[cfg(not(feature = $name))]
            open: None,
        }),*];
    };
}

backends! {
    "flex", false, |_| Device::flex();
    "ndarray", false, |_| Device::ndarray();
    "wgpu", true, |index| Device::wgpu(gpu(index));
    "vulkan", true, |index| Device::vulkan(gpu(index));
    "cuda", true, |index| Device::cuda(index.unwrap_or_default());
}

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
fn gpu(index: Option<usize>) -> burn::tensor::DeviceKind {
    use burn::tensor::DeviceKind;
    index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu)
}

fn known() -> Vec<String> {
    let shown = |backend: &Backend| match backend.indexed {
        true => format!("{}[:INDEX]", backend.name),
        false => backend.name.to_owned(),
    };
    BACKENDS.iter().map(shown).collect()
}

impl DeviceName {
    /// The names that this build can open.
    pub fn compiled_in() -> Vec<&'static str> {
        BACKENDS.iter().filter(|backend| backend.open.is_some()).map(|backend| backend.name).collect()
    }

    /// The device, without autodiff.
    pub fn open(&self) -> Device {
        (self.open)(self.index)
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (name, index) = text.split_once(':').map_or((text, None), |(name, index)| (name, Some(index)));
        let backend = BACKENDS.iter().find(|backend| backend.name == name);
        let &Backend { name, indexed, open } =
            backend.ok_or_else(|| DeviceError::Unknown { name: text.to_owned() })?;
        let wrong = |index: &str, allowed| DeviceError::Index { name, index: index.to_owned(), allowed };
        let index = match index {
            None => None,
            Some(index) if !indexed => return Err(wrong(index, "this backend has one device and no index")),
            Some(index) => {
                Some(index.parse().map_err(|_| wrong(index, "the index must be a number from 0"))?)
            }
        };
        Ok(Self { name, index, open: open.ok_or(DeviceError::NotCompiledIn { name })? })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}:{index}", self.name),
            None => f.write_str(self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[cfg(feature = "flex")]
    fn a_name_is_shown_as_it_was_given() {
        assert_eq!("flex".parse::<DeviceName>().unwrap().to_string(), "flex");
    }

    #[test]
    fn a_device_left_out_of_the_build_names_its_feature() {
        for backend in BACKENDS.iter().filter(|backend| backend.open.is_none()) {
            let error = backend.name.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("build with `--features {}`", backend.name)), "{error}");
        }
    }

    #[test]
    fn an_index_that_is_none_is_refused_before_anything_else() {
        let error = |text: &str| text.parse::<DeviceName>().unwrap_err().to_string();
        assert_eq!(error("flex:0"), "`flex:0` is no device: this backend has one device and no index");
        assert_eq!(error("cuda:-1"), "`cuda:-1` is no device: the index must be a number from 0");
    }
}
