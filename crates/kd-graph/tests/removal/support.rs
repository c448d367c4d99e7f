//! Random numbers, and comparing.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Graph, GraphModule};

/// A linear congruential generator, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Values between 0.2 and 1.2 with random signs: none is too small to matter.
    pub fn tensor(&mut self, sizes: &[usize]) -> TensorData {
        let count = sizes.iter().product();
        let value = |_| {
            let size = self.below(1000) as f32 / 1000.0 + 0.2;
            if self.below(2) == 0 { size } else { -size }
        };
        TensorData::new((0..count).map(value).collect::<Vec<f32>>(), sizes.to_vec())
    }

    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}

/// The largest difference of the outputs, relative to the largest output.
pub fn difference(a: &Graph, b: &Graph, random: &mut Random) -> f32 {
    let device = Device::flex();
    let x = random.tensor(&[2, 3, 4, 4]);
    let [a, b] = [a, b].map(|graph| {
        let module = GraphModule::new(graph.clone(), &device).unwrap();
        let y: Tensor<2> = module.forward(Tensor::<4>::from_data(x.clone(), &device)).unwrap();
        y.into_data().try_into_vec::<f32>().unwrap()
    });
    let largest = b.iter().fold(1e-6f32, |largest, value| largest.max(value.abs()));
    a.iter().zip(&b).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}
