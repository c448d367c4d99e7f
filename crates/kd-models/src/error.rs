//! Why a model could not be made.

use crate::input_shape::InputShape;

/// A name that is no model, a value out of range, or a shape that the model can't take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No model of this name.
    #[error("there is no model `{name}`; the models are: {}{}", known.join(", "), suggest(*nearest))]
    Unknown {
        /// The name given.
        name: String,
        /// The names that exist.
        known: Vec<&'static str>,
        /// The name that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A size in the name or an option that the model can't take.
    #[error("model `{model}`: {key} is `{value}`, but it must be {allowed}")]
    OutOfRange {
        /// The model.
        model: String,
        /// What was set: depth, width, dropout, ...
        key: &'static str,
        /// The value given.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// The image has an empty axis.
    #[error("images of shape {input} hold no pixel")]
    Empty {
        /// The image shape given.
        input: InputShape,
    },
    /// A layer's window is larger than what is left of the image.
    #[error(
        "images of {input} are too small: a window of {window}x{window} meets a map of {map}; use larger images or a model that shrinks them less"
    )]
    TooSmall {
        /// The image shape given.
        input: InputShape,
        /// What reaches the layer.
        map: InputShape,
        /// Side of the layer's window.
        window: usize,
    },
    /// A classifier of no class.
    #[error("a classifier needs at least one class, but 0 were given")]
    NoClasses,
}

/// `Ok` if `ok`, else an error that says what `key` must be.
pub(crate) fn in_range(
    model: &str,
    key: &'static str,
    value: impl ToString,
    ok: bool,
    allowed: impl Into<String>,
) -> Result<(), ModelError> {
    if ok {
        return Ok(());
    }
    Err(ModelError::OutOfRange {
        model: model.into(),
        key,
        value: value.to_string(),
        allowed: allowed.into(),
    })
}

/// Reads `8,16,150` as layer widths.
pub(crate) fn widths(model: &str, text: &str) -> Result<Vec<usize>, ModelError> {
    let read = |text: &str| {
        let width = size(text.trim()).unwrap_or(0);
        in_range(model, "width", text, (1..=MAX_WIDTH).contains(&width), format!("1 to {MAX_WIDTH}"))?;
        Ok(width)
    };
    text.split(',').map(read).collect()
}

/// Reads one size, such as a depth; `None` if the text is not a number as it would be printed (`+8` and `08` are not).
pub(crate) fn size(text: &str) -> Option<usize> {
    text.parse().ok().filter(|size: &usize| size.to_string() == text)
}

/// The widest layer that a name can ask for: far beyond use, and far below what would overflow.
pub(crate) const MAX_WIDTH: usize = 65_536;

fn suggest(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
