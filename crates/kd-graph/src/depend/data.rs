//! Tensors in memory, some indices of an axis at a time, whatever they hold.

use burn::tensor::{Bytes, TensorData};

/// Some indices of every axis; `None` keeps all.
pub(super) fn cut(data: &TensorData, keeps: &[Option<Vec<usize>>]) -> TensorData {
    let mut shape: Vec<usize> = data.shape().iter().copied().collect();
    let mut bytes: Vec<u8> = data.as_bytes().to_vec();
    for (axis, keep) in keeps.iter().enumerate() {
        let (Some(keep), Some(&size)) = (keep, shape.get(axis)) else { continue };
        let run = shape.iter().skip(axis + 1).product::<usize>() * data.dtype().size();
        let rows = bytes.chunks((size * run).max(1));
        let part = |row: &[u8], index: usize| row.get(index * run..(index + 1) * run).map(<[u8]>::to_vec);
        bytes =
            rows.flat_map(|row| keep.iter().filter_map(move |&index| part(row, index)).flatten()).collect();
        if let Some(slot) = shape.get_mut(axis) {
            *slot = keep.len();
        }
    }
    TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape, data.dtype())
}

/// Zeros at some indices of an axis.
pub(super) fn silenced(data: &TensorData, axis: usize, indices: &[usize]) -> TensorData {
    let shape = data.shape().to_vec();
    let size = shape.get(axis).copied().unwrap_or(1).max(1);
    let run = shape.iter().skip(axis + 1).product::<usize>() * data.dtype().size();
    let mut bytes = data.as_bytes().to_vec();
    if run > 0 {
        for (place, values) in bytes.chunks_mut(run).enumerate() {
            if indices.contains(&(place % size)) {
                values.fill(0);
            }
        }
    }
    TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape, data.dtype())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn indices_of_several_axes_are_cut_out_of_any_kind_of_numbers() {
        let data = TensorData::new((0..12i16).collect(), [3, 4]);
        let part = cut(&data, &[Some(vec![0, 2]), Some(vec![1, 3])]);
        assert_eq!(part, TensorData::new(vec![1i16, 3, 9, 11], [2, 2]));
        let bools = TensorData::from([[true, false], [false, true]]);
        assert_eq!(cut(&bools, &[None, Some(vec![1])]), TensorData::from([[false], [true]]));
        assert_eq!(cut(&data, &[Some(vec![]), None]).shape().to_vec(), [0, 4]);
    }

    #[test]
    fn zeros_are_put_at_indices_of_one_axis() {
        let data = TensorData::new(vec![1.0f64; 12], [2, 3, 2]);
        let zeroed = silenced(&data, 1, &[0, 2]).try_into_vec::<f64>().unwrap();
        assert_eq!(zeroed, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }
}
