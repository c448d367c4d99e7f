//! Reductions, and distributions along an axis.

use super::call::{Call, Inferred};
use crate::{Dim, Kind, Reduction, Shape, TensorType};

pub(super) fn reduce(call: &Call, kind: Reduction, axes: Option<&[usize]>) -> Inferred {
    let [x] = call.exactly()?;
    let logical = matches!(kind, Reduction::Any | Reduction::All);
    call.ensure(logical || x.kind != Kind::Bool, || format!("it is not defined for {}", x.kind))?;
    let shape = match axes {
        None => Shape::fixed([1]),
        Some(axes) => {
            let mut shape = x.shape.clone();
            for &axis in axes {
                call.axis(x, axis)?;
                shape = shape.with(axis, Dim::Fixed(1));
            }
            shape
        }
    };
    let places = matches!(kind, Reduction::ArgMax | Reduction::ArgMin);
    call.ensure(
        !places || axes.is_some_and(|axes| axes.len() == 1),
        || "a place is looked for along one axis",
    )?;
    let kind = match kind {
        Reduction::ArgMax | Reduction::ArgMin => Kind::Int,
        Reduction::Any | Reduction::All => Kind::Bool,
        _ => x.kind,
    };
    Ok(TensorType { kind, shape })
}

pub(super) fn softmax(call: &Call, axis: usize) -> Inferred {
    let [x] = call.exactly()?;
    call.kind(x, "x", Kind::Float)?;
    call.axis(x, axis)?;
    Ok(x.clone())
}
