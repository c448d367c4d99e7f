//! AdderNet: convolution by sums of absolute differences, without multiplication.

mod autodiff;
#[cfg(feature = "flex")]
mod flex;
mod kernel;
mod ops;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Tensor};
use ops::Adder;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::in_range;
pub(crate) use kernel::Geometry;

/// The adder layer.
///
/// $$ y_{o,p} = -\sum_k |w_{o,k} - x_{k,p}|, \qquad
///    D_{o,k} = \sum_p g_{o,p}\,(x_{k,p} - w_{o,k}), \qquad
///    g_x = \sum_o g_{o,p}\,\mathrm{clamp}(w_{o,k} - x_{k,p}, -1, 1) $$
///
/// The weight's gradient is $\eta\sqrt{K}\,D/\lVert D \rVert_2$, with $K$ the layer's weights and $\lVert D \rVert$ at least $10^{-12}$: layers of very
/// different magnitudes then learn at one rate. Padding takes part: a padded zero adds $-|w|$. A batch normalisation has to follow, since results are
/// never positive. Patches are laid out a few images at a time; the product of all differences is never held.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `stride` | 1 | both ways |
/// | `padding` | 0 | zeros on every side |
/// | `eta` | 0.2 | the learning rate's factor $\eta$ |
///
/// Chen et al., *AdderNet: Do We Really Need Multiplications in Deep Learning?*, CVPR 2020.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::adder::AdderConv;
///
/// let device = Device::flex();
/// let x = Tensor::<4>::from_floats([[[[1.0, 2.0]]]], &device);
/// let w = Tensor::<4>::from_floats([[[[0.5]]]], &device);
/// let y = AdderConv::default().forward(x, w)?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![-0.5, -1.5]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdderConv {
    /// How far the window moves, both ways.
    pub stride: usize,
    /// Zeros on every side.
    pub padding: usize,
    /// The factor on the weight's normalised gradient.
    pub eta: f32,
}

impl Default for AdderConv {
    fn default() -> Self {
        Self { stride: 1, padding: 0, eta: 0.2 }
    }
}

impl AdderConv {
    /// The layer's result. `x [batch, in, h, w]`, `weight [out, in, kh, kw]`, result `[batch, out, h', w']`.
    ///
    /// # Errors
    /// [`QuantError::Shape`] for channels that do not fit or a window larger than the padded image; [`QuantError::Setting`] for a stride of 0;
    /// [`QuantError::Device`] on other devices than `flex`, or other numbers than f32.
    pub fn forward(&self, x: Tensor<4>, weight: Tensor<4>) -> Result<Tensor<4>, QuantError> {
        in_range("stride", self.stride, self.stride > 0, "at least 1")?;
        let geometry = Geometry::new(x.dims(), weight.dims(), self.stride, self.padding)?;
        supported("the adder layer", &x.device())?;
        let y = Dispatch::adder_conv(x.into_dispatch(), weight.into_dispatch(), geometry, self.eta);
        Ok(Tensor::from_dispatch(y))
    }

    /// A linear adder layer: `x [batch, in]`, `weight [out, in]`, result `[batch, out]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn linear(&self, x: Tensor<2>, weight: Tensor<2>) -> Result<Tensor<2>, QuantError> {
        let ([n, k], [o, i]) = (x.dims(), weight.dims());
        let unit = Self { stride: 1, padding: 0, eta: self.eta };
        Ok(unit.forward(x.reshape([n, k, 1, 1]), weight.reshape([o, i, 1, 1]))?.reshape([n, o]))
    }
}

/// The extension is written for flex; burn stops who calls it elsewhere, so this comes first.
pub(crate) fn supported(what: &'static str, device: &Device) -> Result<(), QuantError> {
    let inner = device.clone().without_autodiff();
    let float = DType::from(device.settings().float_dtype);
    #[cfg(feature = "flex")]
    let flex = matches!(inner.as_dispatch(), DispatchDevice::Flex(_));
    #[cfg(not(feature = "flex"))]
    let flex = {
        let _: Option<DispatchDevice> = None;
        false
    };
    if flex && float == DType::F32 {
        return Ok(());
    }
    Err(QuantError::Device { what, device: format!("{inner:?} ({float:?})") })
}
