#![allow(clippy::unwrap_used)]
use super::*;

/// Applies every operation to `a`, `b`, `c` lane by lane and returns the results one after another.
struct Everything<'a>([&'a [f32]; 3]);

impl Kernel for Everything<'_> {
    type Output = Vec<Vec<f32>>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let len = self.0[0].len();
        let mut results = vec![Vec::new(); 12];
        let mut i = 0;
        while i < len {
            let n = S::LANES.min(len - i);
            // SAFETY: `n` numbers are left in every slice, and `out` is that long.
            unsafe {
                let [a, b, c] = self.0.map(|x| s.load_partial(x.as_ptr().add(i), n));
                let all = [
                    s.add(a, b),
                    s.sub(a, b),
                    s.mul(a, b),
                    s.div(a, b),
                    s.fma(a, b, c),
                    s.max(a, b),
                    s.min(a, b),
                    s.sqrt(s.mul(a, a)),
                    s.round(s.mul(a, s.splat(10.0))),
                    s.keep_if_greater(a, s.zero(), b),
                    s.exp(a),
                    s.abs(a),
                ];
                for (result, v) in results.iter_mut().zip(all) {
                    let mut out = vec![f32::NAN; n];
                    s.store_partial(out.as_mut_ptr(), v, n);
                    result.extend(out);
                }
            }
            i += n;
        }
        results
    }
}

fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(len)
    .collect()
}

#[test]
fn every_level_computes_what_scalars_do() {
    // An odd length reaches the tails; the slices start unaligned.
    let [a, b, c] = [1, 2, 3].map(|seed| numbers(seed, 1 + 67));
    let [a, b, c] = [&a[1..], &b[1..], &c[1..]];
    let scalar =
        |f: fn(f32, f32, f32) -> f32| -> Vec<f32> { (0..a.len()).map(|i| f(a[i], b[i], c[i])).collect() };
    let wanted = [
        scalar(|a, b, _| a + b),
        scalar(|a, b, _| a - b),
        scalar(|a, b, _| a * b),
        scalar(|a, b, _| a / b),
        scalar(|a, b, c| a * b + c),
        scalar(|a, b, _| a.max(b)),
        scalar(|a, b, _| a.min(b)),
        scalar(|a, _, _| (a * a).sqrt()),
        scalar(|a, _, _| (a * 10.0).round_ties_even()),
        scalar(|a, b, _| if a > 0.0 { b } else { 0.0 }),
        scalar(|a, _, _| a.exp()),
        scalar(|a, _, _| a.abs()),
    ];
    for level in Level::available() {
        let got = dispatch(level, Everything([a, b, c]));
        for (op, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            for (g, w) in got.iter().zip(wanted) {
                assert!((g - w).abs() <= 3e-7 * w.abs().max(1.0), "{level:?}, operation {op}: {g} for {w}");
            }
        }
    }
}

struct Reduce<'a>(&'a [f32]);

impl Kernel for Reduce<'_> {
    type Output = (f32, f32);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        // SAFETY: the test passes sixteen numbers, no level has more lanes.
        let v = unsafe { s.load(self.0.as_ptr()) };
        (s.reduce_sum(v), s.reduce_max(v) - S::LANES as f32)
    }
}

#[test]
fn reductions_cover_every_lane() {
    let rising: Vec<f32> = (1..=16).map(|x| x as f32).collect();
    for level in Level::available() {
        let (sum, past_last) = dispatch(level, Reduce(&rising));
        assert_eq!(past_last, 0.0, "{level:?}");
        assert!([10.0, 36.0, 136.0].contains(&sum), "{level:?}: {sum}");
    }
}

struct Exp([f32; 16]);

impl Kernel for Exp {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) -> Vec<f32> {
        for i in (0..16).step_by(S::LANES) {
            // SAFETY: every level's lanes divide sixteen.
            unsafe { s.store(self.0.as_mut_ptr().add(i), s.exp(s.load(self.0.as_ptr().add(i)))) };
        }
        self.0.to_vec()
    }
}

#[test]
fn exp_holds_over_its_range_and_keeps_nan() {
    let mut x: [f32; 16] = std::array::from_fn(|i| -87.3 + 11.73 * i as f32);
    x[15] = f32::NAN;
    for level in Level::available() {
        let y = dispatch(level, Exp(x));
        for (x, y) in x.iter().zip(&y).take(15) {
            let wanted = f64::from(*x).exp();
            assert!((f64::from(*y) / wanted - 1.0).abs() < 4e-7, "{level:?}: exp({x}) = {y}");
        }
        assert!(y[15].is_nan(), "{level:?}");
        let limits =
            dispatch(level, Exp([1000.0, -1000.0, 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.]));
        assert!(limits[0].is_finite() && limits[1] > 0.0 && limits[2] == 1.0, "{level:?}: {limits:?}");
    }
}

#[test]
fn an_override_lasts_for_its_scope() {
    with_level(Level::Portable, || assert_eq!(Level::current(), Level::Portable));
    assert_eq!(Level::current(), Level::detect());
}
