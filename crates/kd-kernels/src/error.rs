//! What a kernel refuses.

use std::fmt::Debug;

/// Why a kernel did not run. Nothing has been written to any output when one of these is returned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice is not as long as the shape says.
    #[error(
        "slice `{name}` has {got} elements, but the shape needs {wanted}: pass the whole tensor, contiguous"
    )]
    Length {
        /// The argument's name.
        name: &'static str,
        /// Elements passed.
        got: usize,
        /// Elements that the shape asks for.
        wanted: usize,
    },
    /// A size of the geometry is impossible: zero, not divisible, or larger than what it is taken from.
    #[error("{name} is {value}, but it must be {allowed}")]
    Geometry {
        /// Which size.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// A number among the settings is outside its range.
    #[error("{name} is {value}, but it must be {allowed}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
    /// A label names a class that does not exist.
    #[error("label {label} of row {row} is no class: there are {classes}, counted from 0")]
    Label {
        /// Which row of the batch.
        row: usize,
        /// The label found there.
        label: i64,
        /// How many classes the logits have.
        classes: usize,
    },
}

/// Requires `got` elements to be `wanted`.
pub(crate) fn length(name: &'static str, got: usize, wanted: usize) -> Result<(), KernelError> {
    if got == wanted { Ok(()) } else { Err(KernelError::Length { name, got, wanted }) }
}

/// Requires a condition of a size or a list of sizes.
pub(crate) fn geometry(
    ok: bool,
    name: &'static str,
    value: impl Debug,
    allowed: impl Into<String>,
) -> Result<(), KernelError> {
    if ok {
        return Ok(());
    }
    Err(KernelError::Geometry { name, value: format!("{value:?}"), allowed: allowed.into() })
}

/// Requires a condition of a setting.
pub(crate) fn setting(
    ok: bool,
    name: &'static str,
    value: f64,
    allowed: &'static str,
) -> Result<(), KernelError> {
    if ok { Ok(()) } else { Err(KernelError::Setting { name, value, allowed }) }
}

/// The number of elements of a shape, which must be countable.
pub(crate) fn elements(name: &'static str, shape: &[usize]) -> Result<usize, KernelError> {
    let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    match count {
        Some(count) if count <= isize::MAX as usize / size_of::<f32>() => Ok(count),
        _ => Err(KernelError::Geometry {
            name,
            value: format!("{shape:?}"),
            allowed: "small enough to be addressed".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wrong_length_names_the_slice_and_both_numbers() {
        let text = length("gamma", 3, 4).unwrap_err().to_string();
        assert!(text.contains("`gamma`") && text.contains('3') && text.contains('4'), "{text}");
        assert_eq!(length("gamma", 4, 4), Ok(()));
    }

    #[test]
    fn a_shape_that_overflows_is_an_error() {
        assert_eq!(elements("input", &[2, 3, 4]), Ok(24));
        let text = elements("input", &[usize::MAX, 2]).unwrap_err().to_string();
        assert!(text.contains("input is [18446744073709551615, 2]"), "{text}");
        assert!(elements("input", &[isize::MAX as usize]).is_err());
    }
}
