//! Convolution, linear, matrix product, embedding, attention.

use burn::tensor::activation::softmax;
use burn::tensor::module::{
    attention, conv_transpose1d, conv_transpose2d, conv_transpose3d, conv1d, conv2d, conv3d, embedding,
    linear,
};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions, ConvTransposeOptions};
use kd_graph::{Attention, Conv, ConvTranspose, LayeredAttention, Op, Value};

use crate::support::{Arg::*, B, same};

fn conv(stride: &[usize], padding: &[(usize, usize)], dilation: &[usize], groups: usize) -> Op {
    let (stride, padding, dilation) = (stride.to_vec(), padding.to_vec(), dilation.to_vec());
    Op::Conv(Conv { stride, padding, dilation, groups })
}

#[test]
fn convolution_over_one_axis() {
    same(
        conv(&[2], &[(1, 1)], &[2], 2),
        &[Input(vec![B, 4, 9]), Weight(vec![6, 2, 3]), Weight(vec![6])],
        |v| {
            let options = ConvOptions::new_with_padding([2], [(1, 1)], [2], 2);
            let bias = Some(v[2].float().unwrap());
            conv1d(v[0].float().unwrap(), v[1].float().unwrap(), bias, options).into()
        },
    );
}

#[test]
fn convolution_over_two_axes_grouped_dilated_padded_unevenly_and_depthwise() {
    same(
        conv(&[1, 1], &[(1, 1), (1, 1)], &[1, 1], 1),
        &[Input(vec![B, 3, 6, 5]), Weight(vec![4, 3, 3, 3]), Weight(vec![4])],
        |v| {
            let options = ConvOptions::new_with_padding([1; 2], [(1, 1); 2], [1; 2], 1);
            let bias = Some(v[2].float().unwrap());
            conv2d(v[0].float().unwrap(), v[1].float().unwrap(), bias, options).into()
        },
    );
    same(
        conv(&[2, 1], &[(2, 1), (0, 3)], &[1, 2], 2),
        &[Input(vec![B, 4, 8, 7]), Weight(vec![6, 2, 3, 2])],
        |v| {
            let options = ConvOptions::new_with_padding([2, 1], [(2, 1), (0, 3)], [1, 2], 2);
            conv2d(v[0].float().unwrap(), v[1].float().unwrap(), None, options).into()
        },
    );
    same(
        conv(&[1, 1], &[(1, 1), (1, 1)], &[1, 1], 5),
        &[Input(vec![B, 5, 6, 6]), Weight(vec![5, 1, 3, 3])],
        |v| {
            let options = ConvOptions::new_with_padding([1; 2], [(1, 1); 2], [1; 2], 5);
            conv2d(v[0].float().unwrap(), v[1].float().unwrap(), None, options).into()
        },
    );
}

#[test]
fn convolution_over_three_axes() {
    same(
        conv(&[1, 2, 1], &[(1, 1); 3], &[1; 3], 1),
        &[Input(vec![B, 2, 4, 5, 3]), Weight(vec![3, 2, 2, 3, 3]), Weight(vec![3])],
        |v| {
            let options = ConvOptions::new_with_padding([1, 2, 1], [(1, 1); 3], [1; 3], 1);
            let bias = Some(v[2].float().unwrap());
            conv3d(v[0].float().unwrap(), v[1].float().unwrap(), bias, options).into()
        },
    );
}

fn transposed(axes: usize, groups: usize) -> Op {
    Op::ConvTranspose(ConvTranspose {
        stride: vec![2; axes],
        padding: vec![1; axes],
        padding_out: vec![1; axes],
        dilation: vec![1; axes],
        groups,
    })
}

#[test]
fn transposed_convolution_over_one_two_and_three_axes() {
    same(transposed(1, 1), &[Input(vec![B, 3, 4]), Weight(vec![3, 2, 3]), Weight(vec![2])], |v| {
        let options = ConvTransposeOptions::new([2], [1], [1], [1], 1);
        let bias = Some(v[2].float().unwrap());
        conv_transpose1d(v[0].float().unwrap(), v[1].float().unwrap(), bias, options).into()
    });
    same(transposed(2, 2), &[Input(vec![B, 4, 3, 4]), Weight(vec![4, 3, 3, 3])], |v| {
        let options = ConvTransposeOptions::new([2; 2], [1; 2], [1; 2], [1; 2], 2);
        conv_transpose2d(v[0].float().unwrap(), v[1].float().unwrap(), None, options).into()
    });
    same(transposed(3, 1), &[Input(vec![B, 2, 3, 2, 3]), Weight(vec![2, 2, 3, 3, 3])], |v| {
        let options = ConvTransposeOptions::new([2; 3], [1; 3], [1; 3], [1; 3], 1);
        conv_transpose3d(v[0].float().unwrap(), v[1].float().unwrap(), None, options).into()
    });
}

#[test]
fn linear_at_every_rank_with_and_without_bias() {
    let (weight, bias) = (Weight(vec![5, 3]), Weight(vec![3]));
    same(Op::Linear, &[Input(vec![B, 5]), weight.clone(), bias.clone()], |v| {
        let bias = Some(v[2].float().unwrap());
        linear(v[0].float::<2>().unwrap(), v[1].float().unwrap(), bias).into()
    });
    same(Op::Linear, &[Input(vec![B, 4, 5]), weight.clone(), bias.clone()], |v| {
        let bias = Some(v[2].float().unwrap());
        linear(v[0].float::<3>().unwrap(), v[1].float().unwrap(), bias).into()
    });
    same(Op::Linear, &[Input(vec![B, 2, 4, 5]), weight.clone()], |v| {
        linear(v[0].float::<4>().unwrap(), v[1].float().unwrap(), None).into()
    });
    same(Op::Linear, &[Input(vec![5]), weight, bias], |v| {
        let bias = Some(v[2].float().unwrap());
        linear(v[0].float::<1>().unwrap(), v[1].float().unwrap(), bias).into()
    });
}

#[test]
fn matrix_products_broadcast_their_first_axes() {
    same(Op::Matmul, &[Input(vec![B, 3, 4]), Input(vec![B, 4, 2])], |v| {
        v[0].float::<3>().unwrap().matmul(v[1].float().unwrap()).into()
    });
    same(Op::Matmul, &[Input(vec![B, 2, 3, 4]), Weight(vec![1, 1, 4, 5])], |v| {
        v[0].float::<4>().unwrap().matmul(v[1].float().unwrap()).into()
    });
}

#[test]
fn embedding_gathers_rows() {
    same(Op::Embedding, &[Weight(vec![11, 3]), Ints(vec![B, 4], 11)], |v| {
        embedding(v[0].float().unwrap(), v[1].int().unwrap()).into()
    });
}

#[test]
fn attention_in_single_operations_with_and_without_masks() {
    let qkv = || vec![Input(vec![B, 2, 4, 3]), Input(vec![B, 2, 5, 3]), Input(vec![B, 2, 5, 6])];
    let single = |v: &[Value], masks: usize| {
        let [q, k, value] = [0, 1, 2].map(|i| v[i].float::<4>().unwrap());
        let mut scores = q.matmul(k.transpose()).div_scalar(1.7f32);
        for mask in &v[3..3 + masks] {
            scores = scores.mask_fill(mask.bool::<4>().unwrap(), -1.0e4);
        }
        softmax(scores, 3).matmul(value).into()
    };
    let op =
        |masks| Op::LayeredAttention(LayeredAttention { divisor: f64::from(1.7f32), masks, fill: -1.0e4 });
    same(op(0), &qkv(), |v| single(v, 0));
    let masks = [Bools(vec![B, 1, 1, 5]), Bools(vec![B, 1, 4, 5])];
    same(op(2), &qkv().into_iter().chain(masks).collect::<Vec<_>>(), |v| single(v, 2));
}

#[test]
fn attention_plain_masked_biased_causal_scaled_and_capped() {
    let plain = Attention { scale: None, softcap: None, causal: false, masked: false, biased: false };
    let qkv = || vec![Input(vec![B, 2, 4, 3]), Input(vec![B, 2, 5, 3]), Input(vec![B, 2, 5, 6])];
    let options =
        |a: &Attention| AttentionModuleOptions { scale: a.scale, softcap: a.softcap, is_causal: a.causal };
    for attention_op in [
        plain,
        Attention { scale: Some(0.3), ..plain },
        Attention { softcap: Some(2.0), ..plain },
        Attention { causal: true, ..plain },
    ] {
        same(Op::Attention(attention_op), &qkv(), |v| {
            let [q, k, value] = [0, 1, 2].map(|i| v[i].float().unwrap());
            attention(q, k, value, None, None, options(&attention_op)).into()
        });
    }
    let full = Attention { masked: true, biased: true, ..plain };
    let mut args = qkv();
    args.extend([Bools(vec![B, 2, 4, 5]), Input(vec![B, 2, 4, 5])]);
    same(Op::Attention(full), &args, |v| {
        let [q, k, value] = [0, 1, 2].map(|i| v[i].float().unwrap());
        let (mask, bias) = (v[3].bool().unwrap(), v[4].float().unwrap());
        attention(q, k, value, Some(mask), Some(bias), options(&full)).into()
    });
}
