//! A convolution with its bias and rectifier against plain arithmetic.

use burn::tensor::TensorData;
use kd_graph::{Activation, Conv, Graph, Op, Role};
use kd_quant::Grid;

use crate::nets::{format, placed};
use crate::reference::{check, code, codes, input, network, requantised, run, spread};

#[test]
fn a_convolution_accumulates_products_from_its_rounded_bias_on() {
    let (shape, w_shape): ([usize; 4], [usize; 4]) = ([2, 4, 6, 5], [6, 2, 3, 2]);
    let (stride, padding, groups) = ([2, 1], [(1, 0), (0, 2)], 2);
    let grid = Grid::signed(8).unwrap();
    let (x_format, w_format) = (format(grid, 0.05, -11), format(grid, 0.01, 0));
    let y_format = format(Grid::unsigned(8).unwrap(), 0.1, 5);
    let x = spread(shape, x_format, 1);
    let w = spread(w_shape, w_format, 2);
    let bias: Vec<f32> = (0..6).map(|i| 7.0 * (i as f32 - 2.3)).collect();

    let mut graph = Graph::new();
    let image = input(&mut graph, "x", shape);
    let weight = graph.parameter("conv.weight", Role::Weight, TensorData::new(w.clone(), w_shape)).unwrap();
    let b = graph.parameter("conv.bias", Role::Weight, TensorData::new(bias.clone(), [6])).unwrap();
    let conv = Conv { stride: stride.to_vec(), padding: padding.to_vec(), dilation: vec![1, 1], groups };
    let conv = graph.add("conv", Op::Conv(conv), &[image, weight, b]).unwrap();
    let relu = graph.add("relu", Op::Activation(Activation::Relu), &[conv]).unwrap();
    graph.set_outputs(&[relu]).unwrap();
    let activations = [("x", x_format), ("relu", y_format)];
    let network = network(&placed(&graph, &[("conv.weight", w_format)], &activations));
    assert_eq!(network.float_nodes(), []);

    let (qx, qw) = (codes(&x, x_format), codes(&w, w_format));
    let step = w_format.codes.scale * x_format.codes.scale;
    let [batch, channels, height, width] = shape;
    let [out, inputs, kh, kw] = w_shape;
    let places = |size: usize, axis: usize, kernel: usize| {
        (size + padding[axis].0 + padding[axis].1 - kernel) / stride[axis] + 1
    };
    let mut wanted = Vec::new();
    for n in 0..batch {
        for o in 0..out {
            let group = o / (out / groups);
            for py in 0..places(height, 0, kh) {
                for px in 0..places(width, 1, kw) {
                    let mut sum = (bias[o] / step).round_ties_even() as i32;
                    for i in 0..inputs {
                        for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                            let y = (py * stride[0] + ky).checked_sub(padding[0].0).filter(|y| *y < height);
                            let z = (px * stride[1] + kx).checked_sub(padding[1].0).filter(|x| *x < width);
                            if let (Some(y), Some(z)) = (y, z) {
                                let at = ((n * channels + group * inputs + i) * height + y) * width + z;
                                let w = qw[((o * inputs + i) * kh + ky) * kw + kx];
                                sum += (qx[at] - x_format.codes.zero_point) * w;
                            }
                        }
                    }
                    let code = requantised(sum, step / y_format.codes.scale, y_format);
                    wanted.push(code.max(y_format.codes.zero_point));
                }
            }
        }
    }
    let (least, most) = (code(0.0, y_format), y_format.grid.max());
    assert!(
        wanted.contains(&least) && wanted.contains(&most) && wanted.iter().any(|q| *q > least && *q < most)
    );
    check(&run(&network, &[(&x, shape)]), &wanted, y_format, "convolution");
}
