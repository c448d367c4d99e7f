//! Minimal filtering F(2×2, 3×3): 16 products for four outputs of a 3×3 kernel instead of 36.
//!
//! $$ Y = A^\top \Big[ (G g G^\top) \odot (B^\top d B) \Big] A, \qquad
//! \frac{\partial L}{\partial g} = G^\top \Big[ \sum (B^\top d B) \odot (A\,dY A^\top) \Big] G $$
//!
//! for every 4×4 window $d$ of the input, 2×2 outputs apart (Lavin and Gray, *Fast Algorithms for Convolutional
//! Neural Networks*, CVPR 2016). The products of one of the 16 positions, over all windows and channels, are a
//! matrix product: the direct convolution's micro-kernels compute it, with windows in the place of columns.
//! Only additions and halvings are added, therefore the result agrees with the direct one to a few units in the
//! sixth digit. Larger tiles don't.

mod gather;
mod transform;
mod weight;

pub(super) use gather::{Windows, gather_strip, scratch_len};
pub(super) use weight::{add_gradient_strip, pack, unpack};

/// Positions of a transformed window.
pub(super) const POSITIONS: usize = 16;
