//! Groups of small graphs, by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod net;

use burn::tensor::TensorData;

use super::*;
use crate::{
    Activation, Attention, Binary, Dim, LayeredAttention, Op, PadMode, Range, Reduction, Role, Scalar, Shape,
    TensorType,
};
use net::Net;

fn relu() -> Op {
    Op::Activation(Activation::Relu)
}

/// `parameter[axis] first..=last` of every member.
fn axes(group: &Group) -> Vec<String> {
    let axis = |member: &Member| {
        let (first, last) = member.range().unwrap();
        format!("{}[{}] {first}..={last}", member.parameter, member.axis)
    };
    group.members.iter().map(axis).collect()
}

fn prunable(dependencies: &Dependencies) -> Vec<&Group> {
    dependencies.groups().iter().filter(|group| group.unprunable().is_none()).collect()
}

/// Every position can be taken out alone, and the rest is consistent.
fn each_position_can_go(graph: &Graph, dependencies: &Dependencies) {
    for group in prunable(dependencies) {
        for index in (0..group.len()).filter(|index| group.fixed[*index].is_none()) {
            let smaller = dependencies.remove(graph, [group.position(index)]);
            smaller.unwrap_or_else(|error| panic!("group {} position {index}: {error}", group.index));
        }
    }
}

#[test]
fn a_chain_has_one_group_between_two_layers() {
    let mut net = Net::default();
    let x = net.input(&[3, 8, 8]);
    let x = net.conv("a", x, 4, 1);
    let x = net.norm("bn", x);
    let x = net.op(relu(), &[x]);
    let x = net.conv("b", x, 5, 1);
    let dependencies = net.end(x);
    let groups = prunable(&dependencies);
    assert_eq!(groups.len(), 1, "{dependencies}");
    let wanted =
        ["a.weight[0]", "a.bias[0]", "bn.gamma[0]", "bn.beta[0]", "bn.mean[0]", "bn.var[0]", "b.weight[1]"];
    assert_eq!(axes(groups[0]), wanted.map(|axis| format!("{axis} 0..=3")));
    assert_eq!(groups[0].members[6].side, Side::Input);
    assert_eq!(dependencies.groups_of("a.weight", 1).unwrap()[0].unprunable().unwrap().reason, Reason::Input);
    assert_eq!(dependencies.groups_of("b.bias", 0).unwrap()[0].unprunable().unwrap().reason, Reason::Output);
    assert!(dependencies.groups_of("a.weight", 2).unwrap().is_empty(), "a window is no group");
}

#[test]
fn what_is_added_goes_together() {
    let mut net = Net::default();
    let x = net.input(&[3, 8, 8]);
    let stem = net.conv("stem", x, 4, 1);
    let inner = net.conv("inner", stem, 6, 1);
    let branch = net.conv("branch", inner, 4, 1);
    let sum = net.op(Op::Binary(Binary::Add), &[stem, branch]);
    let head = net.conv("head", sum, 2, 1);
    let dependencies = net.end(head);
    let groups = prunable(&dependencies);
    assert_eq!(groups.len(), 2);
    let wanted = [
        "stem.weight[0]",
        "stem.bias[0]",
        "inner.weight[1]",
        "branch.weight[0]",
        "branch.bias[0]",
        "head.weight[1]",
    ];
    assert_eq!(axes(groups[0]), wanted.map(|axis| format!("{axis} 0..=3")));
    each_position_can_go(&net.0, &dependencies);
}

#[test]
fn a_concatenation_that_is_split_elsewhere_is_followed_index_by_index() {
    let mut net = Net::default();
    let x = net.input(&[3, 8, 8]);
    let (a, b) = (net.conv("a", x, 3, 1), net.conv("b", x, 5, 1));
    let cat = net.op(Op::Cat { axis: 1 }, &[a, b]);
    let (front, back) = (net.slice(cat, 1, 0, 4), net.slice(cat, 1, 4, 8));
    let (c, d) = (net.conv("c", front, 2, 1), net.conv("d", back, 2, 1));
    let sum = net.op(Op::Binary(Binary::Add), &[c, d]);
    let dependencies = net.end(sum);
    let groups = prunable(&dependencies);
    assert_eq!(axes(groups[0]), ["a.weight[0] 0..=2", "a.bias[0] 0..=2", "c.weight[1] 0..=2"]);
    assert_eq!(
        axes(groups[1]),
        ["b.weight[0] 0..=4", "b.bias[0] 0..=4", "c.weight[1] 3..=3", "d.weight[1] 0..=3"]
    );
    each_position_can_go(&net.0, &dependencies);

    // The first of b is the last that c reads, so c loses it and the cut between the parts moves.
    let smaller = dependencies.remove(&net.0, [groups[1].position(0), groups[0].position(1)]).unwrap();
    let sizes = |name: &str| smaller.node(smaller.find(name).unwrap()).unwrap().output().shape.at(1);
    assert_eq!(sizes("c.weight"), [2, 2, 1, 1]);
    assert_eq!(sizes("d.weight"), [2, 4, 1, 1]);
    let kept = smaller.value(smaller.find("c.weight").unwrap()).unwrap().try_to_vec::<f32>().unwrap();
    assert_eq!(kept, [0.0, 2.0, 4.0, 6.0]);
}

#[test]
fn a_flattened_channel_is_a_run_of_features() {
    let mut net = Net::default();
    let x = net.input(&[3, 2, 3]);
    let x = net.conv("a", x, 4, 1);
    let x = net.reshape(x, &[24]);
    let x = net.linear("fc", x, 2);
    let dependencies = net.end(x);
    let group = prunable(&dependencies)[0];
    assert_eq!(axes(group), ["a.weight[0] 0..=3", "a.bias[0] 0..=3", "fc.weight[0] 0..=23"]);
    assert_eq!(group.members[2].indices[1], [6, 7, 8, 9, 10, 11]);
    assert_eq!(group.attributes.len(), 1);
    each_position_can_go(&net.0, &dependencies);
}

#[test]
fn groups_and_the_channels_in_a_group_are_removed_apart() {
    let mut net = Net::default();
    let x = net.input(&[3, 4, 4]);
    let x = net.conv("a", x, 6, 1);
    let x = net.conv("grouped", x, 8, 2);
    let x = net.conv("b", x, 2, 1);
    let dependencies = net.end(x);
    let groups = prunable(&dependencies);
    let sizes: Vec<_> = groups.iter().map(|group| group.len()).collect();
    assert_eq!(sizes, [2, 3, 4], "{dependencies}");
    assert_eq!(groups[0].crosses, [1, 2]);
    assert_eq!(groups[0].members[0].indices, [[0, 1, 2], [3, 4, 5]]);
    assert_eq!(groups[1].members[0].indices, [[0, 3], [1, 4], [2, 5]]);
    each_position_can_go(&net.0, &dependencies);
    let smaller = dependencies.remove(&net.0, [groups[0].position(1), groups[1].position(2)]).unwrap();
    let Op::Conv(conv) = smaller.node(smaller.find("grouped").unwrap()).unwrap().op() else { panic!() };
    assert_eq!(conv.groups, 1);
}

#[test]
fn a_depthwise_convolution_ties_what_it_reads_to_what_it_makes() {
    let mut net = Net::default();
    let x = net.input(&[3, 4, 4]);
    let x = net.conv("a", x, 4, 1);
    let x = net.conv("depthwise", x, 4, 4);
    let x = net.conv("b", x, 2, 1);
    let dependencies = net.end(x);
    let group = prunable(&dependencies);
    assert_eq!(group.len(), 1);
    let wanted = ["a.weight[0]", "a.bias[0]", "depthwise.weight[0]", "depthwise.bias[0]", "b.weight[1]"];
    assert_eq!(axes(group[0]), wanted.map(|axis| format!("{axis} 0..=3")));
    each_position_can_go(&net.0, &dependencies);
}

/// How an attention is written down.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Parts,
    Layered,
    Fused,
}

/// `q k v -> heads -> attention -> proj`.
fn attention(net: &mut Net, form: Form) -> NodeId {
    let x = net.input(&[5, 6]);
    let x = net.linear("embed", x, 6);
    let parts = ["q", "k", "v"].map(|name| {
        let part = net.linear(name, x, 8);
        let part = net.reshape(part, &[5, 2, 4]);
        net.permute(part, &[0, 2, 1, 3])
    });
    let mixed = match form {
        Form::Fused => {
            let attention =
                Attention { scale: None, softcap: None, causal: false, masked: false, biased: false };
            net.op(Op::Attention(attention), &parts)
        }
        Form::Layered => {
            let attention = LayeredAttention { divisor: 2.0, masks: 0, fill: 0.0 };
            net.op(Op::LayeredAttention(attention), &parts)
        }
        Form::Parts => {
            let [q, k, v] = parts;
            let k = net.permute(k, &[0, 1, 3, 2]);
            let scores = net.op(Op::Matmul, &[q, k]);
            let scores = net.op(Op::Literal { op: Binary::Mul, value: Scalar::Float(0.5) }, &[scores]);
            let scores = net.op(Op::Softmax { axis: 3 }, &[scores]);
            net.op(Op::Matmul, &[scores, v])
        }
    };
    let mixed = net.permute(mixed, &[0, 2, 1, 3]);
    let mixed = net.reshape(mixed, &[5, 8]);
    net.linear("proj", mixed, 3)
}

#[test]
fn heads_go_together_and_places_in_a_head_by_twos() {
    for form in [Form::Parts, Form::Layered, Form::Fused] {
        let mut net = Net::default();
        let proj = attention(&mut net, form);
        let dependencies = net.end(proj);
        let groups = prunable(&dependencies);
        let sizes: Vec<_> = groups.iter().map(|group| group.len()).collect();
        assert_eq!(sizes, [6, 2, 4, 4], "{dependencies}");
        let names =
            |group: &Group| group.members.iter().map(|m| m.parameter.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(groups[1]), "q.weight q.bias k.weight k.bias v.weight v.bias proj.weight");
        assert_eq!(names(groups[2]), "q.weight q.bias k.weight k.bias");
        assert_eq!(names(groups[3]), "v.weight v.bias proj.weight");
        assert!(groups.iter().all(|group| group.inexact.is_empty()), "{dependencies}");
        each_position_can_go(&net.0, &dependencies);
        if form == Form::Fused {
            let smaller = dependencies.remove(&net.0, [groups[2].position(3)]).unwrap();
            let Op::Attention(attention) = smaller.node(smaller.find("attention").unwrap()).unwrap().op()
            else {
                panic!()
            };
            assert_eq!(attention.scale, Some(0.5), "that of four places, not of three");
        }
    }
}

#[test]
fn heads_folded_into_the_batch_are_still_heads() {
    let mut net = Net::default();
    let x = net.input(&[5, 6]);
    let fold = |net: &mut Net, name: &str| {
        let part = net.linear(name, x, 8);
        let part = net.reshape(part, &[5, 2, 4]);
        let part = net.permute(part, &[0, 2, 1, 3]);
        let shape = [Dim::Batch(2), Dim::Fixed(5), Dim::Fixed(4)].into_iter().collect();
        net.op(Op::Reshape { shape }, &[part])
    };
    let (q, k) = (fold(&mut net, "q"), fold(&mut net, "k"));
    let k = net.permute(k, &[0, 2, 1]);
    let scores = net.op(Op::Matmul, &[q, k]);
    let scores = net.reshape(scores, &[2, 5, 5]);
    let sum = net.op(Op::Reduce { kind: Reduction::Sum, axes: Some(vec![1]) }, &[scores]);
    let dependencies = net.end(sum);
    let sizes: Vec<_> = prunable(&dependencies).iter().map(|group| group.len()).collect();
    assert_eq!(sizes, [2, 4], "{dependencies}");
    assert_eq!(prunable(&dependencies)[0].inexact[0].mixing, Mixing::Reduction);
    each_position_can_go(&net.0, &dependencies);
}

#[test]
fn a_channel_shuffle_is_followed() {
    let mut net = Net::default();
    let x = net.input(&[3, 4, 4]);
    let x = net.conv("a", x, 6, 1);
    let x = net.reshape(x, &[2, 3, 4, 4]);
    let x = net.permute(x, &[0, 2, 1, 3, 4]);
    let x = net.reshape(x, &[6, 4, 4]);
    let x = net.conv("b", x, 2, 1);
    let dependencies = net.end(x);
    let groups = prunable(&dependencies);
    assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [2, 3]);
    let reader = groups[0].members.last().unwrap();
    assert_eq!(reader.indices, [[0, 2, 4], [1, 3, 5]], "{dependencies}");
    each_position_can_go(&net.0, &dependencies);
}

#[test]
fn a_border_of_channels_shrinks_with_what_it_is_added_to() {
    let mut net = Net::default();
    let x = net.input(&[3, 4, 4]);
    let x = net.conv("a", x, 2, 1);
    let y = net.conv("b", x, 4, 1);
    let padding = vec![(0, 0), (1, 1), (0, 0), (0, 0)];
    let x = net.op(Op::Pad { padding, mode: PadMode::Constant(Scalar::Float(0.0)) }, &[x]);
    let sum = net.op(Op::Binary(Binary::Add), &[x, y]);
    let x = net.conv("c", sum, 2, 1);
    let dependencies = net.end(x);
    let groups = prunable(&dependencies);
    assert_eq!(groups.len(), 1, "{dependencies}");
    assert_eq!(groups[0].len(), 4);
    each_position_can_go(&net.0, &dependencies);
    let border = groups[0].members.iter().find(|member| member.parameter == "b.weight").unwrap();
    let first = border.indices.iter().position(|indices| indices == &[0]).unwrap();
    let smaller = dependencies.remove(&net.0, [groups[0].position(first)]).unwrap();
    let Op::Pad { padding, .. } = smaller.node(smaller.find("pad").unwrap()).unwrap().op() else { panic!() };
    assert_eq!(padding[1], (0, 1));
}

#[test]
fn normalisation_over_the_removed_axis_is_reported() {
    let mut net = Net::default();
    let x = net.input(&[3]);
    let x = net.linear("a", x, 4);
    let gamma = net.parameter("norm.gamma", &[4]);
    let x = net.op(Op::LayerNorm { epsilon: 1e-5 }, &[x, gamma]);
    let x = net.linear("b", x, 2);
    let dependencies = net.end(x);
    let group = prunable(&dependencies)[0];
    assert_eq!(axes(group).len(), 4);
    assert_eq!(group.inexact[0].mixing, Mixing::Statistics);
}

#[test]
fn a_function_that_is_not_zero_at_zero_is_reported_unless_something_silences_it() {
    let sigmoid = Op::Activation(Activation::Sigmoid);
    let mixing = |gated: bool| {
        let mut net = Net::default();
        let x = net.input(&[3]);
        let a = net.linear("a", x, 4);
        let mut hidden = net.op(sigmoid.clone(), &[a]);
        if gated {
            hidden = net.op(Op::Binary(Binary::Mul), &[hidden, a]);
        }
        let b = net.linear("b", hidden, 2);
        let dependencies = net.end(b);
        prunable(&dependencies)[0].inexact.iter().map(|inexact| inexact.mixing).collect::<Vec<_>>()
    };
    assert_eq!(mixing(false), [Mixing::Offset]);
    assert_eq!(mixing(true), []);
}

#[test]
fn heads_that_a_bias_makes_sound_again_are_reported() {
    let mut net = Net::default();
    let x = net.input(&[5, 6]);
    let x = net.linear("a", x, 8);
    let x = net.reshape(x, &[5, 2, 4]);
    let x = net.linear("each", x, 4);
    let x = net.reshape(x, &[5, 8]);
    let x = net.linear("b", x, 3);
    let dependencies = net.end(x);
    let groups = prunable(&dependencies);
    let inexact = |size: usize| groups.iter().find(|group| group.len() == size).unwrap().inexact.len();
    assert_eq!(inexact(2), 1, "{dependencies}");
    each_position_can_go(&net.0, &dependencies);
}

#[test]
fn what_an_unknown_operation_reads_must_stay() {
    let mut net = Net::default();
    let x = net.input(&[3]);
    let hidden = net.linear("a", x, 4);
    let custom = Op::Custom { name: "mystery".into(), attributes: Vec::new() };
    let y = net.0.push("mystery", custom, vec![hidden], TensorType::float(Shape::batched([4]))).unwrap();
    let y = net.linear("b", y, 2);
    let dependencies = net.end(y);
    assert!(prunable(&dependencies).is_empty());
    let group = dependencies.groups_of("a.weight", 1).unwrap()[0];
    assert_eq!(
        group.unprunable(),
        Some(Unprunable { reason: Reason::Unknown, node: net.0.find("mystery").unwrap() })
    );
    let text = dependencies.to_string();
    assert!(text.contains("a custom operation reads it: a.weight[1]"), "{text}");
    let error = dependencies.remove(&net.0, [group.position(1)]).unwrap_err().to_string();
    assert!(error.contains("a.weight") && error.contains("mystery"), "{error}");
}

#[test]
fn a_slice_with_a_step_and_computed_indices_keep_their_axis() {
    let mut net = Net::default();
    let x = net.input(&[3, 4, 4]);
    let a = net.conv("a", x, 4, 1);
    let dims = net.0.node(a).unwrap().output().shape.dims().to_vec();
    let mut ranges: Vec<_> = dims.into_iter().map(Range::all).collect();
    ranges[1].step = 2;
    let a = net.op(Op::Slice { ranges }, &[a]);
    let b = net.conv("b", x, 4, 1);
    let indices = net.0.constant("indices", TensorData::from([1i64, 3])).unwrap();
    let b = net.op(Op::Select { axis: 1 }, &[b, indices]);
    let sum = net.op(Op::Binary(Binary::Add), &[a, b]);
    let x = net.conv("c", sum, 2, 1);
    let dependencies = net.end(x);
    let reason = |name| dependencies.groups_of(name, 0).unwrap()[0].unprunable().unwrap().reason;
    assert_eq!(reason("a.weight"), Reason::Step);
    assert_eq!(reason("b.weight"), Reason::Index);
}

#[test]
fn an_axis_divided_in_two_ways_is_removed_in_what_fits_both() {
    let mut net = Net::default();
    let x = net.input(&[3]);
    let x = net.linear("a", x, 16);
    let (two, four) = (net.reshape(x, &[2, 8]), net.reshape(x, &[4, 4]));
    let (two, four) = (net.permute(two, &[0, 2, 1]), net.permute(four, &[0, 2, 1]));
    let (two, four) = (net.reshape(two, &[16]), net.reshape(four, &[16]));
    let (b, c) = (net.linear("b", two, 2), net.linear("c", four, 2));
    let sum = net.op(Op::Binary(Binary::Add), &[b, c]);
    let dependencies = net.end(sum);
    each_position_can_go(&net.0, &dependencies);
    assert_eq!(prunable(&dependencies).iter().map(|group| group.len()).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn tied_weights_are_one_member_under_both_paths() {
    let mut net = Net::default();
    let x = net.input(&[4]);
    let role = Op::Parameter { role: Role::Weight, aliases: vec!["decoder.weight".into()] };
    let weight = net.parameter("encoder.weight", &[4, 4]);
    net.0.nodes.get_mut(&weight).unwrap().op = role;
    let hidden = net.op(Op::Linear, &[x, weight]);
    let back = net.permute(weight, &[1, 0]);
    let y = net.op(Op::Linear, &[hidden, back]);
    let dependencies = net.end(y);
    assert_eq!(
        dependencies.groups_of("decoder.weight", 1).unwrap(),
        dependencies.groups_of("encoder.weight", 1).unwrap()
    );
    each_position_can_go(&net.0, &dependencies);
    assert_eq!(prunable(&dependencies)[0].members.len(), 1);
}

#[test]
fn the_reading_side_is_found_behind_masks_and_permutations() {
    let mut net = Net::default();
    let x = net.input(&[4]);
    let (weight, mask) = (net.parameter("weight", &[4, 4]), net.parameter("mask", &[4, 4]));
    let masked = net.op(Op::Binary(Binary::Mul), &[weight, mask]);
    let turned = net.permute(masked, &[1, 0]);
    let y = net.op(Op::Linear, &[x, turned]);
    let dependencies = net.end(y);
    for name in ["weight", "mask"] {
        let side = |axis| {
            let group = dependencies.groups_of(name, axis).unwrap()[0];
            group.member(net.0.find(name).unwrap(), axis).unwrap().side
        };
        assert_eq!([side(0), side(1)], [Side::Output, Side::Input]);
    }
}

#[test]
fn bad_removals_are_refused() {
    let mut net = Net::default();
    let x = net.input(&[3]);
    let x = net.linear("a", x, 2);
    let x = net.linear("b", x, 2);
    let dependencies = net.end(x);
    let group = prunable(&dependencies)[0];
    let all = dependencies.remove(&net.0, [group.position(0), group.position(1)]).unwrap_err();
    assert!(matches!(&all, RemoveError::Empty { size: 2, .. }), "{all}");
    let none = dependencies.remove(&net.0, [Position { group: 0, index: 2 }]).unwrap_err();
    assert_eq!(
        none,
        RemoveError::Unknown { position: Position { group: 0, index: 2 }, groups: 3, positions: 2 }
    );
    net.input(&[7]);
    let changed = dependencies.remove(&net.0, [group.position(0)]).unwrap_err();
    assert_eq!(changed, RemoveError::Changed { node: "input_1".into() });
    assert!(dependencies.groups_of("a.wieght", 0).unwrap_err().to_string().contains("`a.weight`"));
    assert!(dependencies.groups_of("a.weight", 2).is_err());
}
