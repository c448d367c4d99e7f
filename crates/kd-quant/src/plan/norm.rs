//! The batch normalisations that methods need around them.

use burn::tensor::TensorData;
use kd_graph::{BatchNorm, Binary, Edit, Graph, GraphError, NodeId, Op, Pool, PoolKind, Role};

use crate::QuantError;

/// What to take the signs of in place of a tensor that is never negative: the values before the rectifier, batch-normalised.
///
/// Nothing that others read is changed: a rectifier that only this quantiser read is dead afterwards, one that a shortcut reads as well stays there.
/// `source` itself is read by none but the quantiser if it is `alone`.
pub(super) fn norm_in_front(edit: &mut Edit, source: NodeId, alone: bool) -> Result<NodeId, QuantError> {
    let mut value = source;
    while let (Op::Activation(_), Some(before)) = op_and_input(edit.graph(), value)? {
        value = before;
    }
    // Further back, through what does not change the order of values, as long as nobody else reads it.
    let mut reader = value;
    let mut mine = alone && only_reads(edit.graph(), value, source)?;
    loop {
        let (op, before) = op_and_input(edit.graph(), reader)?;
        let Some(before) = before else { break };
        match op {
            Op::BatchNorm(_) => return Ok(value),
            Op::Pool(Pool { kind: PoolKind::Max, .. }) | Op::Reshape { .. } | Op::Dropout { .. } => {
                mine &= readers(edit.graph(), before) == 1;
                // A rectifier between is passed by, and dead if it was ours alone.
                let mut past = before;
                while let (Op::Activation(_), Some(further)) = op_and_input(edit.graph(), past)? {
                    if !mine {
                        return norm_of(edit, value);
                    }
                    past = further;
                }
                if past != before {
                    edit.rewire(reader, 0, past)?;
                }
                reader = past;
            }
            _ => break,
        }
    }
    norm_of(edit, value)
}

/// A batch normalisation behind a layer, read by all that read the layer, unless there is one.
pub(super) fn norm_behind(edit: &mut Edit, layer: NodeId) -> Result<(), QuantError> {
    if norm_that_reads(edit.graph(), layer).is_none() {
        let users: Vec<NodeId> = edit.graph().users(layer).map(|(id, _)| id).collect();
        let norm = norm_of(edit, layer)?;
        for user in users {
            redirect(edit, user, layer, norm)?;
        }
        redirect_results(edit, layer, norm)?;
    }
    Ok(())
}

/// Lets one node read `new` where it read `old`.
pub(super) fn redirect(edit: &mut Edit, user: NodeId, old: NodeId, new: NodeId) -> Result<(), GraphError> {
    let inputs = edit.graph().node(user)?.inputs().to_vec();
    for (index, input) in inputs.into_iter().enumerate() {
        if input == old {
            edit.rewire(user, index, new)?;
        }
    }
    Ok(())
}

/// Lets the graph's results be `new` where they were `old`.
pub(super) fn redirect_results(edit: &mut Edit, old: NodeId, new: NodeId) -> Result<(), GraphError> {
    let results = edit.graph().outputs().iter();
    let results: Vec<NodeId> = results.map(|&id| if id == old { new } else { id }).collect();
    edit.set_outputs(&results)
}

/// How many nodes and results read a node.
pub(super) fn readers(graph: &Graph, id: NodeId) -> usize {
    graph.users(id).count() + graph.outputs().iter().filter(|&&output| output == id).count()
}

fn op_and_input(graph: &Graph, id: NodeId) -> Result<(Op, Option<NodeId>), GraphError> {
    let node = graph.node(id)?;
    Ok((node.op().clone(), node.inputs().first().copied()))
}

/// Whether nobody but the rectifiers up to `source` reads a value.
fn only_reads(graph: &Graph, mut value: NodeId, source: NodeId) -> Result<bool, GraphError> {
    while value != source {
        let mut users = graph.users(value);
        match (users.next(), users.next()) {
            (Some((user, _)), None) if readers(graph, value) == 1 => value = user,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn norm_that_reads(graph: &Graph, id: NodeId) -> Option<NodeId> {
    graph.users(id).find(|(_, user)| matches!(user.op(), Op::BatchNorm(_))).map(|(id, _)| id)
}

/// The batch normalisation of a value: the one that is there, or a new one, which nothing reads yet.
fn norm_of(edit: &mut Edit, value: NodeId) -> Result<NodeId, QuantError> {
    if let Some(present) = norm_that_reads(edit.graph(), value) {
        return Ok(present);
    }
    let node = edit.graph().node(value)?;
    let name = format!("{}.batch_norm", node.name());
    let shape = &node.output().shape;
    let refused = |why: &str| QuantError::Plan {
        name: node.name().to_owned(),
        why: format!("has shape {shape}: {why}"),
    };
    if shape.rank() > 2 && !channels_are_second(edit.graph(), value)? {
        let why = "a batch normalisation needs channels in axis 1, and none of its makers says that they are there; leave the layer behind out";
        return Err(refused(why));
    }
    let Some(channels) = shape.dim(1).and_then(|dim| dim.fixed()) else {
        return Err(refused("a batch normalisation needs channels in axis 1"));
    };
    let mut inputs = vec![value];
    for (what, role, value) in [
        ("gamma", Role::Weight, 1.0_f32),
        ("beta", Role::Weight, 0.0),
        ("running_mean", Role::Buffer, 0.0),
        ("running_var", Role::Buffer, 1.0),
    ] {
        let data = TensorData::new(vec![value; channels], [channels]);
        inputs.push(edit.add_parameter(&format!("{name}.{what}"), role, data)?);
    }
    let op = Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: Some(0.1) });
    Ok(edit.add(&name, op, &inputs)?)
}

/// Whether a tensor's channels are in axis 1, as its makers have them: tokens of linear layers have theirs last.
fn channels_are_second(graph: &Graph, id: NodeId) -> Result<bool, GraphError> {
    let (op, before) = op_and_input(graph, id)?;
    Ok(match (op, before) {
        (
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::BatchNorm(_)
            | Op::Pool(_)
            | Op::AdaptiveAvgPool { .. }
            | Op::Input,
            _,
        ) => true,
        (
            Op::Activation(_)
            | Op::Dropout { .. }
            | Op::Clamp { .. }
            | Op::Binary(Binary::Add)
            | Op::Cat { .. }
            | Op::Custom { .. },
            Some(before),
        ) => channels_are_second(graph, before)?,
        _ => false,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use kd_graph::{Activation, Shape, TensorType};

    use super::super::tests::residual;
    use super::super::{Ends, PlanSettings, QuantPlan, initialise};
    use super::*;

    fn applied(graph: &Graph, settings: PlanSettings) -> Result<Graph, QuantError> {
        QuantPlan::new(graph, &settings)?.apply(graph)
    }

    fn inputs<'a>(graph: &'a Graph, name: &str) -> Vec<&'a str> {
        let node = graph.node(graph.find(name).unwrap()).unwrap();
        node.inputs().iter().map(|&id| graph.node(id).unwrap().name()).collect()
    }

    #[test]
    fn a_shortcut_keeps_its_real_values_and_its_rectifier() {
        let mut graph = residual();
        let four = PlanSettings { everywhere: false, ..PlanSettings::lsq(4).unwrap() };
        let quantised = applied(&graph, four).unwrap();
        assert_eq!(inputs(&quantised, "add"), ["relu", "b"]);
        assert_eq!(inputs(&quantised, "b")[0], "relu.quantised");
        assert_eq!(inputs(&quantised, "relu.quantised")[0], "relu");

        let signs = PlanSettings { ends: Ends::Same, ..PlanSettings::xnor() };
        let quantised = applied(&graph, signs.clone()).unwrap();
        assert_eq!(inputs(&quantised, "add"), ["relu", "b"]);
        assert_eq!(inputs(&quantised, "relu"), ["a"]);
        assert_eq!(inputs(&quantised, "relu.quantised"), ["a.batch_norm"]);
        assert_eq!(inputs(&quantised, "a.batch_norm")[0], "a");

        // Without the shortcut the rectifier is nobody's.
        let b = graph.find("b").unwrap();
        graph.edit(|edit| edit.set_outputs(&[b])).unwrap();
        graph.remove_dead().unwrap();
        let quantised = applied(&graph, signs).unwrap();
        assert!(quantised.find("relu").is_err());
        // Results are read as they are too, by plans for layers only.
        let everywhere = applied(&residual(), PlanSettings::lsq(4).unwrap()).unwrap();
        assert_eq!(inputs(&everywhere, "add"), ["relu.quantised", "b.quantised"]);
    }

    /// Two linear layers over `[batch, 3 tokens, 4 features]`.
    fn tokens() -> Graph {
        let mut graph = Graph::new();
        let mut h = graph.input("x", TensorType::float(Shape::batched([3, 4]))).unwrap();
        for name in ["a", "b"] {
            let values: Vec<f32> = (0..16).map(|i| i as f32 - 7.5).collect();
            let weight = TensorData::new(values, [4, 4]);
            let weight = graph.parameter(&format!("{name}.weight"), Role::Weight, weight).unwrap();
            h = graph.add(name, Op::Linear, &[h, weight]).unwrap();
            h = graph.add(&format!("{name}.relu"), Op::Activation(Activation::Relu), &[h]).unwrap();
        }
        graph.set_outputs(&[h]).unwrap();
        graph
    }

    #[test]
    fn tokens_are_not_normalised_over_their_places() {
        for settings in
            [PlanSettings::binary_connect(), PlanSettings { ends: Ends::Same, ..PlanSettings::xnor() }]
        {
            let error = applied(&tokens(), settings).unwrap_err().to_string();
            assert!(error.contains("`a`") && error.contains("channels in axis 1"), "{error}");
        }
        // Methods that need no normalisation take them.
        let mut graph = applied(&tokens(), PlanSettings::lsq(4).unwrap()).unwrap();
        let x = Tensor::<3>::ones([2, 3, 4], &Device::flex());
        initialise(&mut graph, &Device::flex(), [vec![x.into()]]).unwrap();
    }
}
