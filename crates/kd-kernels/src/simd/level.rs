use super::Simd;
use super::portable::Portable;
use std::cell::Cell;
use std::sync::LazyLock;

/// Instruction sets that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Plain Rust on arrays of eight; the compiler vectorises what it can. On every machine.
    Portable,
    /// x86-64 with AVX2 and FMA: eight lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL: sixteen lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 64-bit Arm: four lanes.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

static BEST: LazyLock<Level> =
    LazyLock::new(|| Level::available().last().copied().unwrap_or(Level::Portable));

thread_local! {
    static OVERRIDE: Cell<Option<Level>> = const { Cell::new(None) };
}

impl Level {
    /// The levels of this processor, slowest first.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)] // on other architectures nothing is added
        let mut levels = vec![Level::Portable];
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                levels.push(Level::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Level::Avx512);
            }
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        levels.push(Level::Neon);
        levels
    }

    /// The fastest level of this processor, found once.
    pub fn detect() -> Level {
        *BEST
    }

    /// What the operations called on this thread use: the level of [`with_level`], else the fastest.
    pub fn current() -> Level {
        OVERRIDE.get().unwrap_or_else(Level::detect)
    }
}

/// Runs `f` with another level on this thread, to compare levels; one that the processor lacks is ignored.
pub fn with_level<T>(level: Level, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let usable = Level::available().contains(&level).then_some(level);
    let _restore = Restore(OVERRIDE.replace(usable));
    f()
}

/// A computation that is generic over the instruction set.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The computation; `#[inline(always)]`, and so must be what it calls.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Compiles `kernel` for every level and runs the version for `level`, or the portable one where the
/// processor lacks it.
#[inline]
pub fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    // A level is plain data which anybody can name; the detected one bounds what may run.
    let level = if rank(level) <= rank(Level::detect()) { level } else { Level::Portable };
    match level {
        Level::Portable => kernel.run(Portable(())),
        // SAFETY: levels are nested, and the detected one is at least this.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { super::avx2::run(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { super::avx512::run(kernel) },
        // SAFETY: every 64-bit Arm processor has it.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { super::neon::run(kernel) },
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::Portable => 0,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 1,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => 2,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => 1,
    }
}
