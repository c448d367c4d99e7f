//! Uniform quantisers as one node of the tape: one pass over the numbers forward and one backward, in whatever order they lie in memory.
//!
//! On flex in f32; elsewhere the quantisers are operations of burn, which is also their definition that the tests hold this against.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};
use kd_kernels::quantize::{FakeQuantize, Gate};

use crate::adder::supported;
use crate::affine::column;
use crate::{Bound, Granularity, Grid, QuantError};

/// What uniform quantisers differ in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub grid: Grid,
    pub by_inverse: bool,
    pub gate: Gate,
    pub bound: Bound,
    /// Factor on the gradients of scale and zero point.
    pub gradient_scale: f32,
}

impl Rule {
    /// With this scale and zero point.
    fn with(&self, scale: f32, zero_point: f32) -> FakeQuantize {
        let (low, high) = self.grid.bounds();
        FakeQuantize {
            scale,
            least: low - zero_point,
            most: high - zero_point,
            by_inverse: self.by_inverse,
            gate: self.gate,
            inclusive: self.bound == Bound::Inclusive,
        }
    }

    /// The quantised tensor, or none where only burn's operations can compute it. `scale` and `zero_point` are `[blocks]`.
    ///
    /// # Errors
    /// As [`Granularity::blocks`]; [`QuantError::Length`] for scales that are not one per block.
    pub fn quantize<const D: usize>(
        &self,
        x: &Tensor<D>,
        granularity: Granularity,
        scale: &Tensor<1>,
        zero_point: &Tensor<1>,
    ) -> Result<Option<Tensor<D>>, QuantError> {
        let f32s = [x.dtype(), scale.dtype(), zero_point.dtype()] == [DType::F32; 3];
        if !f32s || supported("a fused quantiser", &x.device()).is_err() {
            return Ok(None);
        }
        let blocks = granularity.blocks(&x.dims())?;
        let scale = column("the scale", scale.clone(), blocks)?.into_dispatch();
        let zero_point = column("the zero point", zero_point.clone(), blocks)?.into_dispatch();
        // One block need not be laid out in rows.
        if blocks == 1 {
            let y = Dispatch::fused_quantize(x.clone().into_dispatch(), scale, zero_point, *self);
            return Ok(Some(Tensor::from_dispatch(y)));
        }
        let rows = granularity.split(x.clone())?.into_dispatch();
        let y = Tensor::from_dispatch(Dispatch::fused_quantize(rows, scale, zero_point, *self));
        Ok(Some(granularity.join(y, x.dims())))
    }
}

/// The quantiser, with gradients wherever the backend has them. `scale` and `zero_point` are `[blocks, 1]`, `x` is `[blocks, elements]`, or of any shape if
/// there is one block.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub(crate) trait Fused: Backend {
    fn fused_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        zero_point: FloatTensor<Self>,
        rule: Rule,
    ) -> FloatTensor<Self>;
}

/// Its gradients, on a backend without a tape.
pub(crate) trait FusedGradients: Fused {
    /// Of `x`, scale and zero point.
    fn fused_gradients(saved: Saved<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

#[derive(Clone, Debug)]
pub(crate) struct Saved<B: Backend> {
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    zero_point: FloatTensor<B>,
    rule: Rule,
}

#[derive(Debug)]
struct Node;

impl<B: FusedGradients> Backward<B, 3> for Node {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        for (parent, gradient) in ops.parents.into_iter().zip(B::fused_gradients(ops.state, dy)) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: FusedGradients, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn fused_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        zero_point: FloatTensor<Self>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), zero_point.node()];
        let (x, scale) = (x.into_primitive(), scale.into_primitive());
        let zero_point = zero_point.into_primitive();
        let y = B::fused_quantize(x.clone(), scale.clone(), zero_point.clone(), rule);
        match Node.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Saved { x, scale, zero_point, rule }, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::Flex;
    use burn::tensor::{Shape, TensorData};
    use burn_flex::FlexTensor;
    use kd_kernels::KernelError;
    use kd_kernels::quantize::FakeQuantize;

    use super::{Fused, FusedGradients, Rule, Saved};

    /// The axes in the order in which the tensor is gone through: as they lie in memory, or as they are if the rows of a matrix are blocks.
    fn order(x: &FlexTensor, blocks: usize) -> Vec<usize> {
        let strides = x.layout().strides();
        let mut axes: Vec<usize> = (0..strides.len()).collect();
        if blocks == 1 {
            axes.sort_by_key(|&axis| std::cmp::Reverse(strides[axis].unsigned_abs()));
        }
        axes
    }

    /// Seen with its axes in this order, and lying so.
    fn lying(x: &FlexTensor, axes: &[usize]) -> FlexTensor {
        x.permute(axes).to_contiguous()
    }

    fn numbers(x: &FlexTensor) -> &[f32] {
        x.as_slice().unwrap_or_default()
    }

    /// A tensor from numbers that lie in the order of `axes`, of which `shape` has the sizes.
    fn back(values: Vec<f32>, shape: Shape, axes: &[usize]) -> FlexTensor {
        let mut places = vec![0; axes.len()];
        axes.iter().enumerate().for_each(|(place, &axis)| places[axis] = place);
        FlexTensor::from_data(TensorData::new(values, shape)).permute(&places)
    }

    /// The rule of every block.
    fn rules(rule: Rule, scale: FlexTensor, zero_point: FlexTensor) -> Vec<FakeQuantize> {
        let (scale, zero_point) = (scale.to_contiguous(), zero_point.to_contiguous());
        let pairs = numbers(&scale).iter().zip(numbers(&zero_point));
        pairs.map(|(&scale, &zero_point)| rule.with(scale, zero_point)).collect()
    }

    /// burn's operations can't return an error, and lengths were checked before. Should a kernel refuse all the same, the log says why and NaN shows it.
    fn refused(error: &KernelError) -> [f32; 2] {
        tracing::error!("a kernel refused its arguments, and its result is NaN: {error}");
        [f32::NAN; 2]
    }

    impl Fused for Flex {
        fn fused_quantize(
            x: FlexTensor,
            scale: FlexTensor,
            zero_point: FlexTensor,
            rule: Rule,
        ) -> FlexTensor {
            let rules = rules(rule, scale, zero_point);
            let axes = order(&x, rules.len());
            let x = lying(&x, &axes);
            let mut y = vec![f32::NAN; numbers(&x).len()];
            let block = (y.len() / rules.len().max(1)).max(1);
            for ((rule, x), y) in rules.iter().zip(numbers(&x).chunks(block)).zip(y.chunks_mut(block)) {
                if let Err(error) = rule.forward(x, y) {
                    refused(&error);
                }
            }
            back(y, x.layout().shape().clone(), &axes)
        }
    }

    impl FusedGradients for Flex {
        fn fused_gradients(saved: Saved<Self>, dy: FlexTensor) -> [FlexTensor; 3] {
            let Saved { x, scale, zero_point, rule } = saved;
            let shape = scale.layout().shape().clone();
            let rules = rules(rule, scale, zero_point);
            let axes = order(&x, rules.len());
            let (x, dy) = (lying(&x, &axes), lying(&dy, &axes));
            let mut dx = vec![f32::NAN; numbers(&x).len()];
            let block = (dx.len() / rules.len().max(1)).max(1);
            let parts = numbers(&x).chunks(block).zip(numbers(&dy).chunks(block)).zip(dx.chunks_mut(block));
            let sums = rules.iter().zip(parts).map(|(rule, ((x, dy), dx))| {
                rule.gradients(x, dy, dx).unwrap_or_else(|error| refused(&error))
            });
            let sums = sums.map(|sums| sums.map(|sum| sum * rule.gradient_scale));
            let (scale, zero_point): (Vec<f32>, Vec<f32>) = sums.map(|[scale, zero]| (scale, zero)).unzip();
            let column = |values| FlexTensor::from_data(TensorData::new(values, shape.clone()));
            [back(dx, x.layout().shape().clone(), &axes), column(scale), column(zero_point)]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::affine::Scaling;
    use crate::lsq::Count;
    use crate::{Affine, Lsq};

    /// A result and the gradients of tensor, scale and zero point.
    type Outcome = [Vec<f32>; 4];

    fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    fn outcome(
        x: &Tensor<4>,
        parameters: [Tensor<1>; 2],
        quantize: impl Fn(Tensor<4>, Tensor<1>, Tensor<1>) -> Result<Tensor<4>, QuantError>,
    ) -> Outcome {
        let x = x.clone().detach().require_grad();
        let [scale, zero_point] = parameters.map(|p| p.detach().require_grad());
        let y = quantize(x.clone(), scale.clone(), zero_point.clone()).unwrap();
        let upstream =
            (0..y.dims().iter().product()).map(|i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let upstream = crate::data::tensor(upstream, y.dims(), &y.device());
        let gradients = (y.clone() * upstream).sum().backward();
        let of = |p: &Tensor<1>| p.grad(&gradients).map(read).unwrap_or_default();
        [read(y), read(x.grad(&gradients).unwrap()), of(&scale), of(&zero_point)]
    }

    fn assert_same(what: &str, [y, dx, scale, zero]: Outcome, wanted: Outcome) {
        assert_eq!(y, wanted[0], "{what}: the result");
        assert_eq!(dx, wanted[1], "{what}: the tensor's gradient");
        for (name, got, wanted) in [("scale", scale, &wanted[2]), ("zero point", zero, &wanted[3])] {
            for (got, wanted) in got.iter().zip(wanted) {
                assert!(
                    (got - wanted).abs() <= 2e-4 * wanted.abs().max(1.0),
                    "{what}: {name} {got} {wanted}"
                );
            }
        }
    }

    /// Images as burn makes them, as kd's kernels leave them, and a part of larger ones.
    fn layouts(device: &Device) -> [(&'static str, Tensor<4>); 3] {
        let values = |shape: [usize; 4]| {
            let x = Tensor::<4>::random(shape, Distribution::Uniform(-2.0, 2.0), &Device::flex());
            // Multiples of a sixteenth meet ties and bounds.
            Tensor::<4>::from_data((x * 16.0).round().div_scalar(16.0).into_data(), device)
        };
        [
            ("rows", values([3, 4, 5, 7])),
            ("channels last", values([3, 5, 7, 4]).permute([0, 3, 1, 2])),
            ("a part", values([5, 4, 9, 7]).narrow(0, 1, 3).narrow(2, 2, 5)),
        ]
    }

    #[test]
    fn the_node_computes_what_operations_do_in_every_layout() {
        let device = Device::flex().autodiff();
        let parameters = |blocks: usize| {
            let scale: Vec<f32> = (0..blocks).map(|i| 0.125 + 0.1 * i as f32).collect();
            [scale, vec![2.0; blocks]].map(|p| Tensor::<1>::from_floats(p.as_slice(), &device))
        };
        for (name, x) in layouts(&device) {
            for (granularity, blocks) in [
                (Granularity::Tensor, 1),
                (Granularity::Channel { axis: 0 }, 3),
                (Granularity::Channel { axis: 1 }, 4),
                (Granularity::Group { axis: 0, size: 35 }, 12),
            ] {
                for bound in [Bound::Exclusive, Bound::Inclusive] {
                    let what = format!("{name}, {granularity}, {bound:?}");
                    for scaling in [Scaling::Divide, Scaling::MultiplyByInverse] {
                        let grid = Grid::unsigned(3).unwrap();
                        let affine =
                            Affine { granularity, bound, scaling, gradient_scale: 0.5, ..Affine::new(grid) };
                        let fused = outcome(&x, parameters(blocks), |x, s, z| affine.quantize(x, s, z));
                        let wanted = outcome(&x, parameters(blocks), |x, s, z| affine.by_operations(x, s, z));
                        assert_same(&what, fused, wanted);
                    }
                    for count in [Count::Tensor, Count::Block] {
                        let lsq =
                            Lsq { granularity, bound, count, ..Lsq::new(Grid::signed(3).unwrap()).unwrap() };
                        let fused = outcome(&x, parameters(blocks), |x, s, _| lsq.quantize(x, s));
                        let wanted = outcome(&x, parameters(blocks), |x, s, _| lsq.by_operations(x, s));
                        assert_same(&what, fused, wanted);
                    }
                }
            }
        }
    }

    #[test]
    fn images_stay_in_the_order_in_which_they_lie() {
        use burn::backend::Flex;
        use burn::tensor::TensorData;
        use burn_flex::FlexTensor;

        let numbers = |shape: &[usize]| {
            FlexTensor::from_data(TensorData::new(vec![0.5_f32; shape.iter().product()], shape.to_vec()))
        };
        let x = numbers(&[3, 5, 7, 4]).permute(&[0, 3, 1, 2]);
        let rule = Affine::new(Grid::signed(4).unwrap()).rule();
        let y = Flex::fused_quantize(x.clone(), numbers(&[1, 1]), numbers(&[1, 1]), rule);
        assert_eq!(y.layout().strides(), x.layout().strides());
    }

    #[test]
    fn other_numbers_than_f32_are_left_to_operations() {
        let device = Device::flex();
        let (x, one) = (Tensor::<1>::ones([3], &device), Tensor::<1>::ones([1], &device));
        let rule = Affine::new(Grid::signed(2).unwrap()).rule();
        let fused = |x: Tensor<1>| rule.quantize(&x, Granularity::Tensor, &one, &one).unwrap().is_some();
        assert!(fused(x.clone()) && !fused(x.cast(DType::F64)));
    }
}
