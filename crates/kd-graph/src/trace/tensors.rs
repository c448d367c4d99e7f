//! What goes into and comes out of a traced forward pass.

use burn::tensor::{Bool, Int, Tensor};

/// Does something with every tensor of a value, in order.
pub trait TensorMap {
    /// For floats.
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D>;

    /// For integers.
    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int>;

    /// For truth values.
    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool>;
}

/// A value made of tensors: one, or a tuple, vector, array or option of such values.
///
/// A type of your own joins in by naming its fields, always in the same order:
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use kd_graph::{TensorMap, Tensors};
///
/// #[derive(Clone)]
/// struct Pair {
///     tokens: Tensor<2, Int>,
///     weight: Tensor<1>,
/// }
///
/// impl Tensors for Pair {
///     fn map(self, map: &mut impl TensorMap) -> Self {
///         Self { tokens: self.tokens.map(map), weight: self.weight.map(map) }
///     }
/// }
/// ```
pub trait Tensors: Clone {
    /// The same value with every tensor replaced by what `map` makes of it.
    #[must_use]
    fn map(self, map: &mut impl TensorMap) -> Self;
}

impl<const D: usize> Tensors for Tensor<D> {
    fn map(self, map: &mut impl TensorMap) -> Self {
        map.float(self)
    }
}

impl<const D: usize> Tensors for Tensor<D, Int> {
    fn map(self, map: &mut impl TensorMap) -> Self {
        map.int(self)
    }
}

impl<const D: usize> Tensors for Tensor<D, Bool> {
    fn map(self, map: &mut impl TensorMap) -> Self {
        map.bool(self)
    }
}

impl<T: Tensors> Tensors for Vec<T> {
    fn map(self, map: &mut impl TensorMap) -> Self {
        self.into_iter().map(|value| value.map(map)).collect()
    }
}

impl<T: Tensors> Tensors for Option<T> {
    fn map(self, map: &mut impl TensorMap) -> Self {
        Option::map(self, |value| value.map(map))
    }
}

impl<T: Tensors, const N: usize> Tensors for [T; N] {
    fn map(self, map: &mut impl TensorMap) -> Self {
        <[T; N]>::map(self, |value| value.map(map))
    }
}

macro_rules! tuples {
    ($(($($name:ident),*);)*) => {$(
        impl<$($name: Tensors),*> Tensors for ($($name,)*) {
            #[allow(non_snake_case, unused_variables, clippy::unused_unit)]
            fn map(self, map: &mut impl TensorMap) -> Self {
                let ($($name,)*) = self;
                ($($name.map(map),)*)
            }
        }
    )*};
}

tuples! {
    ();
    (A);
    (A, B);
    (A, B, C);
    (A, B, C, D);
    (A, B, C, D, E);
    (A, B, C, D, E, F);
}
