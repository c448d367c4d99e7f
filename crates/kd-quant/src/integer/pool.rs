//! Pooling of codes.

use super::{LinearCodes, Requantize, Window};
use crate::{Grid, QuantError};

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

/// The sum $\sum (x - z)$ of every window, i32, and the sizes `[batch, channels, h', w']`; padding has the code of zero and adds nothing.
///
/// # Errors
/// As [`max_pool2d`].
pub fn sum_pool2d(pool: &PoolCodes<'_>, zero_point: i32) -> Result<(Vec<i32>, [usize; 4]), QuantError> {
    windows(pool, |codes| codes.fold(0_i32, |sum, code| sum.wrapping_add(code.wrapping_sub(zero_point))))
}

/// The mean of every window, and the sizes `[batch, channels, h', w']`. The sum of [`sum_pool2d`] is an accumulator, requantised once as a layer's is:
///
/// $$ y = \mathrm{saturate}\Big(\mathrm{round}\big(m \textstyle\sum (x - z_x)\big) + z_y\Big), \qquad m = \frac{s_x / n}{s_y} $$
///
/// with all $n$ elements of the window, padding included. $m$ is rounded to f32 at each of its two divisions, also where input and result have one scale;
/// halves go to the even code before $z_y$ is added. A global mean is the one window of the image's size.
///
/// ```
/// use kd_quant::Grid;
/// use kd_quant::integer::{LinearCodes, PoolCodes, Window, average_pool2d};
///
/// let pool = PoolCodes { x: &[4, 5, 5, 6], x_shape: [1, 1, 2, 2], kernel: [1, 2], window: Window::default() };
/// let codes = LinearCodes { scale: 0.1, zero_point: 3 };
/// // Differences 1, 2 and 2, 3: their means 1.5 and 2.5 are ties.
/// assert_eq!(average_pool2d(&pool, codes, codes, Grid::unsigned(8)?)?, (vec![5, 5], [1, 1, 2, 1]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
///
/// # Errors
/// As [`max_pool2d`].
pub fn average_pool2d(
    pool: &PoolCodes<'_>,
    x: LinearCodes,
    y: LinearCodes,
    grid: Grid,
) -> Result<(Vec<i32>, [usize; 4]), QuantError> {
    let (sums, shape) = sum_pool2d(pool, x.zero_point)?;
    let multiplier = mean_step(x.scale, pool.kernel) / y.scale;
    let rule = Requantize { multiplier, zero_point: y.zero_point, grid };
    Ok((sums.into_iter().map(|sum| rule.apply(sum)).collect(), shape))
}

/// What one step of a window's sum is in its mean.
pub(super) fn mean_step(scale: f32, kernel: [usize; 2]) -> f32 {
    scale / (kernel[0] * kernel[1]) as f32
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
    for plane in (0..planes).map(|plane| &pool.x[plane * height * width..][..height * width]) {
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
    fn means_are_requantised_once_and_saturate() {
        let window = Window::new([3, 3], [1, 1]);
        let means = |x, y, grid| average_pool2d(&pool([2, 2], window), x, y, grid).unwrap().0;
        let (x, y) = (LinearCodes { scale: 0.5, zero_point: 1 }, LinearCodes { scale: 0.25, zero_point: -2 });
        // Sums 0, 2, 6 and 8 of codes less one, of four elements each whatever lies in the padding, doubled: 0, 1, 3 and 4.
        assert_eq!(means(x, y, Grid::signed(8).unwrap()), [-2, -1, 1, 2]);
        assert_eq!(means(x, y, Grid::signed(2).unwrap()), [-2, -1, 1, 1]);
    }

    #[test]
    fn an_image_without_pixels_has_windows_of_padding_alone() {
        let empty =
            PoolCodes { x: &[], x_shape: [1, 1, 0, 3], kernel: [1, 1], window: Window::new([1, 1], [1, 0]) };
        assert_eq!(sum_pool2d(&empty, 5).unwrap(), (vec![0; 6], [1, 1, 2, 3]));
        assert!(max_pool2d(&empty).is_err());
    }

    #[test]
    fn a_window_beyond_the_image_is_refused() {
        let error = max_pool2d(&pool([4, 1], Window::default())).unwrap_err();
        assert!(error.to_string().contains("padded 3x3 image"), "{error}");
        assert!(max_pool2d(&pool([1, 1], Window::new([0, 1], [0, 0]))).is_err());
    }
}
