//! Linear layers, matrix products, tables and attention.

use super::arithmetic::broadcast;
use super::call::{Call, Inferred};
use crate::{Attention, Dim, Kind, LayeredAttention, TensorType};

pub(super) fn linear(call: &Call) -> Inferred {
    let ([x, weight], bias) = call.optional(1, "2 or 3")?;
    call.kind(x, "x", Kind::Float)?;
    call.kind(weight, "the weight", Kind::Float)?;
    call.rank(weight, "the weight", 2)?;
    let features = call.axis_from_end(x, 0)?;
    let into = call.axis(weight, 0)?;
    call.ensure(features == into, || format!("{features} features do not fit a weight for {into}"))?;
    let out = call.fixed(call.axis(weight, 1)?, "the weight")?;
    if let [bias] = bias {
        call.vector(bias, "the bias", out)?;
    }
    let last = x.shape.rank() - 1;
    Ok(TensorType::float(x.shape.clone().with(last, Dim::Fixed(out))))
}

pub(super) fn matmul(call: &Call) -> Inferred {
    let [a, b] = call.exactly()?;
    call.ensure(a.kind == b.kind && a.kind != Kind::Bool, || "both must be float, or both int")?;
    let [contracted, rows] = [call.axis_from_end(a, 0)?, call.axis_from_end(b, 1)?];
    call.ensure(contracted == rows, || format!("{contracted} columns do not fit {rows} rows"))?;
    call.axis_from_end(a, 1)?;
    let (outer_a, last_a) = a.shape.dims().split_at(a.shape.rank() - 2);
    let (outer_b, last_b) = b.shape.dims().split_at(b.shape.rank() - 2);
    let outer = broadcast(call, outer_a, outer_b)?;
    let inner = last_a.iter().take(1).chain(last_b.iter().skip(1));
    Ok(TensorType { kind: a.kind, shape: outer.dims().iter().chain(inner).copied().collect() })
}

pub(super) fn embedding(call: &Call) -> Inferred {
    let [table, indices] = call.exactly()?;
    call.kind(table, "the table", Kind::Float)?;
    call.kind(indices, "the indices", Kind::Int)?;
    call.rank(table, "the table", 2)?;
    call.rank(indices, "the indices", 2)?;
    let features = call.axis(table, 1)?;
    Ok(TensorType::float(indices.shape.dims().iter().copied().chain([features]).collect()))
}

pub(super) fn attention(call: &Call, attention: &Attention) -> Inferred {
    let kinds = [(attention.masked, Kind::Bool, "the mask"), (attention.biased, Kind::Float, "the bias")];
    let extra: Vec<_> =
        kinds.into_iter().filter(|(given, ..)| *given).map(|(_, kind, what)| (kind, what)).collect();
    let wanted = ["3", "4 (with the mask or the bias)", "5 (with mask and bias)"];
    attended(call, &extra, wanted.get(extra.len()).copied().unwrap_or("3 to 5"))
}

pub(super) fn layered_attention(call: &Call, attention: &LayeredAttention) -> Inferred {
    attended(call, &vec![(Kind::Bool, "a mask"); attention.masks], "3 and as many as there are masks")
}

/// The type of attention to `q`, `k`, `v` with more tensors of the scores' shape.
fn attended(call: &Call, extra: &[(Kind, &str)], wanted: &'static str) -> Inferred {
    let ([q, k, v], rest) = call.optional(extra.len(), wanted)?;
    if rest.len() != extra.len() {
        return Err(call.wrong_count(wanted));
    }
    for (tensor, what) in [(q, "q"), (k, "k"), (v, "v")] {
        call.kind(tensor, what, Kind::Float)?;
        call.rank(tensor, what, 4)?;
    }
    let [batch, heads, queries, features] = [0, 1, 2, 3].map(|axis| call.axis(q, axis));
    let [batch, heads, queries] = [batch?, heads?, queries?];
    let agree = |axis, a: &TensorType, b: &TensorType, what: &str| {
        let [a, b] = [call.axis(a, axis)?, call.axis(b, axis)?];
        call.ensure(a == b, || format!("{what} differ: {a} and {b}"))
    };
    for (axis, what) in [(0, "batches"), (1, "heads")] {
        agree(axis, q, k, what)?;
        agree(axis, q, v, what)?;
    }
    agree(2, k, v, "positions of k and v")?;
    call.ensure(features? == call.axis(k, 3)?, || "features of q and k differ")?;
    let scores = [batch, heads, queries, call.axis(k, 2)?];
    for (tensor, &(kind, what)) in rest.iter().zip(extra) {
        call.kind(tensor, what, kind)?;
        let shape = broadcast(call, &scores, tensor.shape.dims())?;
        call.ensure(shape.dims() == scores, || format!("{what} is larger than the scores"))?;
    }
    Ok(TensorType::float([batch, heads, queries, call.axis(v, 3)?].into_iter().collect()))
}
