//! Elements that move.

use crate::model::burns;
use burn::tensor::{Int, Tensor, s};
use kd_graph::{Dim, Kind, Op, PadMode, Range, Scalar, Shape, Value};

use crate::support::{Arg::*, B, same};

fn dims(sizes: &[usize]) -> Shape {
    sizes.iter().map(|&size| if size == B { Dim::Batch(1) } else { Dim::Fixed(size) }).collect()
}

#[test]
fn reshapes_with_the_batch_kept_and_folded() {
    same(Op::Reshape { shape: dims(&[B, 12]) }, &[Input(vec![B, 3, 4])], |v| {
        let x = v[0].float::<3>().unwrap();
        let batch = x.dims()[0];
        x.reshape([batch, 12]).into()
    });
    let folded = Shape::from_iter([Dim::Batch(3), Dim::Fixed(4)]);
    same(Op::Reshape { shape: folded }, &[Input(vec![B, 3, 4])], |v| {
        let x = v[0].float::<3>().unwrap();
        let batch = x.dims()[0];
        x.reshape([batch * 3, 4]).into()
    });
    same(Op::Reshape { shape: dims(&[B, 2, 2]) }, &[Ints(vec![B, 4], 9)], |v| {
        let x = v[0].int::<2>().unwrap();
        let batch = x.dims()[0];
        x.reshape([batch, 2, 2]).into()
    });
}

#[test]
fn permutes_expands_repeats_and_flips() {
    same(Op::Permute { axes: vec![0, 2, 1] }, &[Input(vec![B, 3, 4])], |v| {
        v[0].float::<3>().unwrap().permute([0, 2, 1]).into()
    });
    same(Op::Permute { axes: vec![0, 2, 1] }, &[Input(vec![B, 3, 4])], |v| {
        v[0].float::<3>().unwrap().swap_dims(1, 2).into()
    });
    same(Op::Expand { shape: dims(&[B, 3, 4]) }, &[Input(vec![B, 1, 4])], |v| {
        let x = v[0].float::<3>().unwrap();
        let batch = x.dims()[0];
        x.expand([batch, 3, 4]).into()
    });
    same(Op::Repeat { axis: 1, times: Dim::Fixed(3) }, &[Input(vec![B, 2, 4])], |v| {
        v[0].float::<3>().unwrap().repeat_dim(1, 3).into()
    });
    same(Op::Flip { axes: vec![2, 1] }, &[Bools(vec![B, 2, 4])], |v| {
        v[0].bool::<3>().unwrap().flip([2, 1]).into()
    });
}

#[test]
fn concatenations_and_slices() {
    same(
        Op::Cat { axis: 1 },
        &[Input(vec![B, 2, 3]), Input(vec![B, 1, 3]), Weight(vec![1, 4, 3])][..2],
        |v| Tensor::cat(vec![v[0].float::<3>().unwrap(), v[1].float().unwrap()], 1).into(),
    );
    let range = |start, end, step| Range { start: Dim::Fixed(start), end, step };
    let ranges = vec![range(0, Dim::Batch(1), 1), range(1, Dim::Fixed(5), 2), range(0, Dim::Fixed(3), -1)];
    same(Op::Slice { ranges: ranges.clone() }, &[Input(vec![B, 6, 4])], |v| {
        let x = v[0].float::<3>().unwrap();
        let batch = x.dims()[0];
        x.slice(s![0..batch, 1..5;2, 0..3;-1]).into()
    });
    let ranges = vec![range(0, Dim::Batch(1), 1), range(2, Dim::Fixed(4), 1)];
    same(Op::SliceAssign { ranges }, &[Input(vec![B, 6]), Input(vec![B, 2])], |v| {
        let x = v[0].float::<2>().unwrap();
        let batch = x.dims()[0];
        x.slice_assign([0..batch, 2..4], v[1].float().unwrap()).into()
    });
}

#[test]
fn selections_and_gathers() {
    same(Op::Select { axis: 1 }, &[Input(vec![B, 6]), Ints(vec![4], 6)], |v| {
        v[0].float::<2>().unwrap().select(1, v[1].int().unwrap()).into()
    });
    same(Op::Gather { axis: 1 }, &[Input(vec![B, 6]), Ints(vec![B, 3], 6)], |v| {
        v[0].float::<2>().unwrap().gather(1, v[1].int().unwrap()).into()
    });
    same(Op::Gather { axis: 1 }, &[Ints(vec![B, 6], 9), Ints(vec![B, 3], 6)], |v| {
        v[0].int::<2>().unwrap().gather(1, v[1].int().unwrap()).into()
    });
}

#[test]
fn borders_of_every_mode() {
    use burn::tensor::ops::PadMode as Burn;
    let padding = vec![(0, 0), (1, 2), (2, 1)];
    for (mode, native) in [
        (PadMode::Constant(Scalar::Float(0.5)), Burn::Constant(0.5)),
        (PadMode::Reflect, Burn::Reflect),
        (PadMode::Edge, Burn::Edge),
    ] {
        same(Op::Pad { padding: padding.clone(), mode }, &[Input(vec![B, 4, 5])], |v| {
            v[0].float::<3>().unwrap().pad([(0, 0), (1, 2), (2, 1)], native).into()
        });
    }
}

#[test]
fn constants_of_every_kind() {
    // An input gives the batch size.
    for (value, kind) in
        [(Scalar::Float(0.25), Kind::Float), (Scalar::Int(3), Kind::Int), (Scalar::Bool(true), Kind::Bool)]
    {
        let mut graph = kd_graph::Graph::new();
        graph.input("x", kd_graph::TensorType::float(dims(&[B, 2]))).unwrap();
        let full = graph.add("full", Op::Full { shape: dims(&[B, 3]), value }, &[]).unwrap();
        graph.set_outputs(&[full]).unwrap();
        let device = burn::tensor::Device::flex().autodiff();
        let module = burns(graph, &device).unwrap();
        let found = module.run(vec![Tensor::<2>::zeros([7, 2], &device).into()]).unwrap().remove(0);
        let expected: Value = match kind {
            Kind::Float => Tensor::<2>::full([7, 3], 0.25, &device).into(),
            Kind::Int => Tensor::<2, Int>::full([7, 3], 3, &device).into(),
            Kind::Bool => Tensor::<2>::ones([7, 3], &device).equal_elem(1.0).into(),
        };
        assert_eq!(found.data().unwrap(), expected.data().unwrap());
        assert!(found.is_autodiff(), "{value}");
    }
}
