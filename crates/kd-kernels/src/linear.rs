//! Fully connected layers; the matrix products are [`gemm`](mod@gemm)'s.

use gemm::{Parallelism, gemm};

use crate::elementwise::relu_in_place;
use crate::error::{KernelError, elements, geometry, length};
use crate::norm::{Period, Sums, Terms, load};
use crate::parallel::{for_each_chunk, rows_per_task};
use crate::simd::Simd;
use crate::workspace::Workspace;

/// How a weight matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[inputs, outputs]`, as burn has it.
    InputsFirst,
    /// `[outputs, inputs]`, as PyTorch has it.
    OutputsFirst,
}

/// Shapes of a linear layer $y = x W + b$: `x` `[rows, inputs]`, `y` `[rows, outputs]`.
///
/// ```
/// use kd_kernels::linear::{Linear, WeightLayout};
///
/// let layer = Linear { rows: 1, inputs: 2, outputs: 1, layout: WeightLayout::InputsFirst };
/// let mut y = [0.0];
/// layer.forward(&[1.0, 2.0], &[3.0, 4.0], Some(&[0.5]), false, &mut y)?;
/// assert_eq!(y, [11.5]);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Rows of the batch.
    pub rows: usize,
    /// Numbers per row that go in, at least 1.
    pub inputs: usize,
    /// Numbers per row that come out, at least 1.
    pub outputs: usize,
    /// Of the weights and of their gradient.
    pub layout: WeightLayout,
}

impl Linear {
    /// `y = x W (+ bias)`, then, with `relu`, `max(y, 0)`.
    ///
    /// # Errors
    /// [`KernelError::Length`], [`KernelError::Geometry`] for a size of 0.
    pub fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        relu: bool,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        self.check(("x", x.len()), ("weight", weight.len()), ("y", y.len()))?;
        if let Some(bias) = bias {
            length("bias", bias.len(), self.outputs)?;
            let rows = rows_per_task(self.rows, self.outputs);
            for_each_chunk(y, rows * self.outputs, |_, y| {
                y.chunks_exact_mut(self.outputs).for_each(|row| row.copy_from_slice(bias));
            });
        }
        let x = Matrix { data: x, rows: self.rows, columns: self.inputs, transposed: false };
        product(x, self.weight(weight), bias.is_some(), y);
        if relu {
            relu_in_place(y);
        }
        Ok(())
    }

    /// `dx = dy Wᵀ`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn input_gradient(&self, dy: &[f32], weight: &[f32], dx: &mut [f32]) -> Result<(), KernelError> {
        self.check(("dx", dx.len()), ("weight", weight.len()), ("dy", dy.len()))?;
        product(self.output(dy), self.weight(weight).transposed(), false, dx);
        Ok(())
    }

    /// `dW = xᵀ dy`, in the layout of the weights.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) -> Result<(), KernelError> {
        self.check(("x", x.len()), ("dw", dw.len()), ("dy", dy.len()))?;
        if self.rows == 0 {
            dw.fill(0.0);
            return Ok(());
        }
        let x = Matrix { data: x, rows: self.rows, columns: self.inputs, transposed: false };
        match self.layout {
            WeightLayout::InputsFirst => product(x.transposed(), self.output(dy), false, dw),
            WeightLayout::OutputsFirst => product(self.output(dy).transposed(), x, false, dw),
        }
        Ok(())
    }

    /// `db`: the sum of `dy` over its rows.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn bias_gradient(
        &self,
        dy: &[f32],
        db: &mut [f32],
        workspace: &Workspace,
    ) -> Result<(), KernelError> {
        geometry(self.outputs > 0, "outputs", self.outputs, "at least 1")?;
        length("dy", dy.len(), elements("dy", &[self.rows, self.outputs])?)?;
        length("db", db.len(), self.outputs)?;
        let sums = Sums::new(Column { dy }, dy.len(), Period::new(self.outputs), workspace);
        for (c, db) in db.iter_mut().enumerate() {
            *db = sums.channel(c).0 as f32;
        }
        Ok(())
    }

    fn weight<'a>(&self, data: &'a [f32]) -> Matrix<'a> {
        let transposed = self.layout == WeightLayout::OutputsFirst;
        Matrix { data, rows: self.inputs, columns: self.outputs, transposed }
    }

    fn output<'a>(&self, data: &'a [f32]) -> Matrix<'a> {
        Matrix { data, rows: self.rows, columns: self.outputs, transposed: false }
    }

    fn check(
        &self,
        x: (&'static str, usize),
        weight: (&'static str, usize),
        y: (&'static str, usize),
    ) -> Result<(), KernelError> {
        geometry(self.inputs > 0, "inputs", self.inputs, "at least 1")?;
        geometry(self.outputs > 0, "outputs", self.outputs, "at least 1")?;
        length(x.0, x.1, elements(x.0, &[self.rows, self.inputs])?)?;
        length(weight.0, weight.1, elements(weight.0, &[self.inputs, self.outputs])?)?;
        length(y.0, y.1, elements(y.0, &[self.rows, self.outputs])?)
    }
}

/// A matrix of `rows`×`columns`, in memory row by row, or column by column if `transposed`.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl Matrix<'_> {
    fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Distance between neighbours in a row, and in a column.
    fn strides(&self) -> (isize, isize) {
        if self.transposed { (self.rows as isize, 1) } else { (1, self.columns as isize) }
    }
}

/// `out = a b`, or with `accumulate` `out + a b`; lengths have been checked.
fn product(a: Matrix<'_>, b: Matrix<'_>, accumulate: bool, out: &mut [f32]) {
    let ((a_column, a_row), (b_column, b_row)) = (a.strides(), b.strides());
    debug_assert!(a.columns == b.rows && out.len() == a.rows * b.columns);
    // SAFETY: every slice has rows * columns elements, which the strides walk over; `out` is borrowed uniquely.
    unsafe {
        gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            accumulate,
            a.data.as_ptr(),
            a_column,
            a_row,
            b.data.as_ptr(),
            b_column,
            b_row,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

/// One sum only.
#[derive(Clone, Copy)]
struct Column<'a> {
    dy: &'a [f32],
}

impl Terms for Column<'_> {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, i: usize, _: usize, n: usize) -> (S::V, S::V) {
        // SAFETY: the caller's.
        (unsafe { load(s, self.dy, i, n) }, s.zero())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_close, at_every_level, cases, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(64))]

        #[test]
        #[cfg_attr(miri, ignore = "the matrix product asks the processor what it is")]
        fn all_passes_are_sums_of_products(rows in 0usize..70, inputs in 1usize..90, outputs in 1usize..70, seed: u32, [burn, relu, biased]: [bool; 3]) {
            let layout = if burn { WeightLayout::InputsFirst } else { WeightLayout::OutputsFirst };
            let layer = Linear { rows, inputs, outputs, layout };
            let [x, w, dy, bias] = [rows * inputs, inputs * outputs, rows * outputs, outputs].map(|len| numbers(seed, len + 1));
            let [x, w, dy, bias] = [&x[1..], &w[1..], &dy[1..], &bias[1..]];
            let at = |i: usize, o: usize| if burn { i * outputs + o } else { o * inputs + i };
            let each = |n: usize, m: usize, f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
                (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).map(|(i, j)| f(i, j)).collect()
            };
            let sum = |n: usize, f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
            let times = |a: f32, b: f32| f64::from(a) * f64::from(b);

            let wanted_y = each(rows, outputs, &|r, o| {
                let y = sum(inputs, &|i| times(x[r * inputs + i], w[at(i, o)])) + if biased { bias[o].into() } else { 0.0 };
                if relu { y.max(0.0) } else { y }
            });
            let wanted_dx = each(rows, inputs, &|r, i| sum(outputs, &|o| times(dy[r * outputs + o], w[at(i, o)])));
            let mut wanted_dw = vec![0.0; inputs * outputs];
            for (i, o) in (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
                wanted_dw[at(i, o)] = sum(rows, &|r| times(x[r * inputs + i], dy[r * outputs + o]));
            }
            let wanted_db = each(1, outputs, &|_, o| sum(rows, &|r| dy[r * outputs + o].into()));

            at_every_level(|| {
                let new = |len: usize| vec![f32::NAN; len + 1];
                let mut y = new(rows * outputs);
                layer.forward(x, w, biased.then_some(bias), relu, &mut y[1..]).unwrap();
                assert_close("y", &y[1..], &wanted_y, 1e-5);
                let mut dx = new(rows * inputs);
                layer.input_gradient(dy, w, &mut dx[1..]).unwrap();
                assert_close("dx", &dx[1..], &wanted_dx, 1e-5);
                let mut dw = new(inputs * outputs);
                layer.weight_gradient(x, dy, &mut dw[1..]).unwrap();
                assert_close("dw", &dw[1..], &wanted_dw, 1e-5);
                let mut db = new(outputs);
                layer.bias_gradient(dy, &mut db[1..], &Workspace::new()).unwrap();
                assert_close("db", &db[1..], &wanted_db, 1e-5);
            });
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "the matrix product asks the processor what it is")]
    fn a_large_product_is_the_same_bit_by_bit_from_run_to_run() {
        let layer = Linear { rows: 128, inputs: 784, outputs: 300, layout: WeightLayout::InputsFirst };
        let (x, w) = (numbers(1, 128 * 784), numbers(2, 784 * 300));
        let run = || {
            let mut y = vec![0.0; 128 * 300];
            layer.forward(&x, &w, None, true, &mut y).unwrap();
            y
        };
        let first = run();
        assert!((0..10).all(|_| run() == first));
    }

    #[test]
    fn wrong_lengths_and_empty_layers_are_refused() {
        let layer = Linear { rows: 2, inputs: 3, outputs: 1, layout: WeightLayout::InputsFirst };
        let error = layer.forward(&[0.0; 5], &[0.0; 3], None, false, &mut [0.0; 2]).unwrap_err();
        assert_eq!(error, KernelError::Length { name: "x", got: 5, wanted: 6 });
        assert!(layer.bias_gradient(&[0.0; 2], &mut [], &Workspace::new()).is_err());
        let empty = Linear { inputs: 0, ..layer };
        assert!(empty.forward(&[], &[], None, false, &mut [0.0; 2]).is_err());
    }
}
