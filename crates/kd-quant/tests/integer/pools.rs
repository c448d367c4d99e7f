//! Poolings of codes against plain arithmetic.

use kd_graph::{Graph, Op, Pool, PoolKind, Reduction};
use kd_quant::Grid;
use kd_quant::integer::{Format, PoolCodes, Window, average_pool2d, max_pool2d};

use crate::nets::{format, placed};
use crate::reference::{check, codes, input, network, requantised, run, same, spread};

const SHAPE: [usize; 4] = [2, 3, 6, 9];

/// A window that moves over an image: size, stride, padding and dilation, down and across.
#[derive(Clone, Copy, Debug)]
struct Moving {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    ceil: bool,
}

impl Moving {
    const fn over(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Self {
        Self { kernel, stride, padding, dilation: [1, 1], ceil: false }
    }

    fn op(&self, kind: PoolKind) -> Op {
        let Self { kernel, stride, padding, dilation, ceil } = *self;
        let [kernel, stride, padding, dilation] =
            [kernel, stride, padding, dilation].map(|pair| pair.to_vec());
        Op::Pool(Pool { kind, kernel, stride, padding, dilation, ceil })
    }

    fn window(&self) -> Window {
        Window { dilation: self.dilation, ..Window::new(self.stride, self.padding) }
    }

    /// How many places there are along an axis.
    fn places(&self, axis: usize) -> usize {
        let size = SHAPE[axis + 2] + 2 * self.padding[axis];
        let left = size - (self.dilation[axis] * (self.kernel[axis] - 1) + 1);
        let steps = if self.ceil { left.div_ceil(self.stride[axis]) } else { left / self.stride[axis] };
        // A window that begins in the padding behind the image does not count.
        let last = steps * self.stride[axis];
        steps + usize::from(last < SHAPE[axis + 2] + self.padding[axis])
    }

    /// The codes under the window at every place; none in the padding.
    fn under(&self, x: &[i32]) -> Vec<Vec<i32>> {
        let [batch, channels, height, width] = SHAPE;
        let mut found = Vec::new();
        for plane in 0..batch * channels {
            for (py, px) in (0..self.places(0)).flat_map(|y| (0..self.places(1)).map(move |x| (y, x))) {
                let mut codes = Vec::new();
                for (ky, kx) in (0..self.kernel[0]).flat_map(|y| (0..self.kernel[1]).map(move |x| (y, x))) {
                    let y = (py * self.stride[0] + ky * self.dilation[0]) as isize - self.padding[0] as isize;
                    let z = (px * self.stride[1] + kx * self.dilation[1]) as isize - self.padding[1] as isize;
                    if (0..height as isize).contains(&y) && (0..width as isize).contains(&z) {
                        codes.push(x[(plane * height + y as usize) * width + z as usize]);
                    }
                }
                found.push(codes);
            }
        }
        found
    }
}

/// One operation on an input in codes; its result in codes too, if a format is given.
fn graph(op: Op, x: Format, y: Option<Format>) -> Graph {
    let mut graph = Graph::new();
    let image = input(&mut graph, "x", SHAPE);
    let pool = graph.add("pool", op, &[image]).unwrap();
    graph.set_outputs(&[pool]).unwrap();
    let mut activations = vec![("x", x)];
    activations.extend(y.map(|y| ("pool", y)));
    placed(&graph, &[], &activations)
}

#[test]
fn a_mean_is_an_accumulator_that_is_requantised_once() {
    let (unsigned, signed) = (Grid::unsigned(8).unwrap(), Grid::signed(8).unwrap());
    let average = |moving: Moving, count_padding| (moving.op(PoolKind::Average { count_padding }), moving);
    let whole = Moving::over([6, 9], [1, 1], [0, 0]);
    let means = [
        average(Moving::over([2, 2], [2, 2], [0, 0]), false),
        // The padding counts as elements of code zero.
        average(Moving::over([2, 4], [1, 2], [1, 2]), true),
        (Op::AdaptiveAvgPool { size: vec![3, 3] }, Moving::over([2, 3], [2, 3], [0, 0])),
        (Op::AdaptiveAvgPool { size: vec![1, 1] }, whole),
        (Op::Reduce { kind: Reduction::Mean, axes: Some(vec![2, 3]) }, whole),
    ];
    for (op, moving) in means {
        for (x, y) in [
            // One scale and an odd zero point: halves still go to the even difference. Divided by this scale and multiplied with it a sixth is less than
            // the nearest float, so that no half of a sixth is a tie any more.
            (format(unsigned, 0.11, 7), format(unsigned, 0.11, 7)),
            (format(signed, 0.043, -5), format(unsigned, 0.0171, 120)),
            (format(signed, 0.5, 0), format(Grid::signed(2).unwrap(), 0.25, 1)),
        ] {
            let numbers = spread(SHAPE, x, 1);
            let image = codes(&numbers, x);
            let elements = (moving.kernel[0] * moving.kernel[1]) as f32;
            let multiplier = x.codes.scale / elements / y.codes.scale;
            let mean = |codes: &Vec<i32>| {
                let sum = codes.iter().map(|code| code - x.codes.zero_point).sum();
                requantised(sum, multiplier, y)
            };
            let wanted: Vec<i32> = moving.under(&image).iter().map(mean).collect();
            let what = format!("{op:?} from {x:?} to {y:?}");
            let pool =
                PoolCodes { x: &image, x_shape: SHAPE, kernel: moving.kernel, window: moving.window() };
            same(&average_pool2d(&pool, x.codes, y.codes, y.grid).unwrap().0, &wanted, &what);
            let network = network(&graph(op.clone(), x, Some(y)));
            assert_eq!(network.float_nodes(), [], "{what}");
            check(&run(&network, &[(&numbers, SHAPE)]), &wanted, y, &what);
        }
    }
}

#[test]
fn a_mean_that_divides_by_another_number_at_the_edge_is_left_to_float() {
    let x = format(Grid::unsigned(8).unwrap(), 0.1, 7);
    let op = Moving::over([2, 2], [1, 1], [1, 1]).op(PoolKind::Average { count_padding: false });
    let network = network(&graph(op, x, Some(x)));
    let [pool] = network.float_nodes() else { panic!("{:?}", network.float_nodes()) };
    assert_eq!((pool.name.as_str(), pool.reason.as_str()), ("pool", "avg_pool2d has no integer form"));
}

#[test]
fn a_maximum_is_of_codes_and_padding_never_wins() {
    // Most differences are below zero, where zeros of the padding would win.
    let x = format(Grid::signed(8).unwrap(), 0.1, 100);
    let numbers = spread(SHAPE, x, 3);
    let image = codes(&numbers, x);
    let plain = Moving::over([3, 2], [2, 2], [1, 1]);
    for moving in [plain, Moving { dilation: [2, 3], ..plain }, Moving { ceil: true, ..plain }] {
        let windows = moving.under(&image);
        let wanted: Vec<i32> = windows.iter().map(|codes| *codes.iter().max().unwrap()).collect();
        let most = windows.iter().map(Vec::len).max().unwrap();
        let won = |(codes, wanted): (&Vec<i32>, &i32)| codes.len() < most && *wanted < x.codes.zero_point;
        assert!(windows.iter().zip(&wanted).any(won), "no window's maximum lies below zero in the padding");
        if !moving.ceil {
            let (kernel, window) = (moving.kernel, moving.window());
            let pool = PoolCodes { x: &image, x_shape: SHAPE, kernel, window };
            same(&max_pool2d(&pool).unwrap().0, &wanted, &format!("{moving:?}"));
        }
        let network = network(&graph(moving.op(PoolKind::Max), x, None));
        assert_eq!(network.float_nodes(), [], "{moving:?}");
        check(&run(&network, &[(&numbers, SHAPE)]), &wanted, x, &format!("{moving:?}"));
    }
}
