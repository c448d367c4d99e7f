//! Pooling of codes.

use super::Window;
use crate::QuantError;

/// Codes of images and the window that moves over them.
#[derive(Clone, Copy, Debug)]
pub struct PoolCodes<'a> {
    /// The codes, `[batch, channels, height, width]`.
    pub x: &'a [i32],
    /// Their sizes.
    pub x_shape: [usize; 4],
    /// The window's height and width.
    pub kernel: [usize; 2],
    /// How the window moves.
    pub window: Window,
}

/// The greatest code of every window, and the sizes `[batch, channels, h', w']`; padding never wins. Scale and zero point stay.
///
/// # Errors
/// [`QuantError::Length`] and [`QuantError::Shape`] for codes and sizes that do not fit; [`QuantError::Setting`] for a stride of 0;
/// [`QuantError::Empty`] for a window of padding alone.
pub fn max_pool2d(pool: &PoolCodes<'_>) -> Result<(Vec<i32>, [usize; 4]), QuantError> {
    let (y, shape) = windows(pool, |codes| codes.max())?;
    let y: Option<Vec<i32>> = y.into_iter().collect();
    Ok((y.ok_or(QuantError::Empty { what: "a pooling window" })?, shape))
}

/// The sum $\sum (x - z)$ of every window, i32, and the sizes `[batch, channels, h', w']`; padding has the code of zero and adds nothing. Divided by the
/// window's elements it is the mean, whose scale is the input's.
///
/// # Errors
/// As [`max_pool2d`].
pub fn sum_pool2d(pool: &PoolCodes<'_>, zero_point: i32) -> Result<(Vec<i32>, [usize; 4]), QuantError> {
    windows(pool, |codes| codes.fold(0_i32, |sum, code| sum.wrapping_add(code.wrapping_sub(zero_point))))
}

/// Folds the codes of every window.
fn windows<T>(
    pool: &PoolCodes<'_>,
    fold: impl Fn(&mut dyn Iterator<Item = i32>) -> T,
) -> Result<(Vec<T>, [usize; 4]), QuantError> {
    let [batch, channels, height, width] = pool.x_shape;
    let planes = batch * channels;
    if pool.x.len() != planes * height * width {
        let (got, wanted) = (pool.x.len(), planes * height * width);
        return Err(QuantError::Length { what: "the codes", got, wanted });
    }
    let [down, across] = pool.window.places([height, width], pool.kernel)?;
    let mut y = Vec::with_capacity(planes * down * across);
    for plane in pool.x.chunks(height * width) {
        for (py, px) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
            let rows = (0..pool.kernel[0]).filter_map(|k| pool.window.inside(0, py, k, height));
            let mut codes = rows.flat_map(|row| {
                let columns = (0..pool.kernel[1]).filter_map(|k| pool.window.inside(1, px, k, width));
                columns.map(move |column| plane[row * width + column])
            });
            y.push(fold(&mut codes));
        }
    }
    Ok((y, [batch, channels, down, across]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const IMAGE: [i32; 9] = [1, -2, 3, 4, 5, -6, 7, 8, 9];

    fn pool(kernel: [usize; 2], window: Window) -> PoolCodes<'static> {
        PoolCodes { x: &IMAGE, x_shape: [1, 1, 3, 3], kernel, window }
    }

    #[test]
    fn windows_move_by_the_stride() {
        let window = Window::new([1, 2], [0, 0]);
        assert_eq!(max_pool2d(&pool([2, 1], window)).unwrap(), (vec![4, 3, 7, 9], [1, 1, 2, 2]));
        assert_eq!(sum_pool2d(&pool([2, 1], window), 1).unwrap().0, [3, -5, 9, 1]);
    }

    #[test]
    fn padding_never_wins_and_adds_nothing() {
        let window = Window::new([3, 3], [1, 1]);
        // Every other corner of a 5x5 image: one element in the first window.
        assert_eq!(max_pool2d(&pool([2, 2], window)).unwrap(), (vec![1, 3, 7, 9], [1, 1, 2, 2]));
        assert_eq!(sum_pool2d(&pool([2, 2], window), 10).unwrap().0, [-9, -7, -3, -1]);
        assert!(max_pool2d(&pool([1, 1], window)).is_err(), "a window of padding alone");
    }

    #[test]
    fn a_window_beyond_the_image_is_refused() {
        let error = max_pool2d(&pool([4, 1], Window::default())).unwrap_err();
        assert!(error.to_string().contains("padded 3x3 image"), "{error}");
        assert!(max_pool2d(&pool([1, 1], Window::new([0, 1], [0, 0]))).is_err());
    }
}
