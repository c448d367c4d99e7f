//! What can be wrong with a quantiser's settings and inputs.

use crate::Granularity;

/// Why a tensor could not be quantised. Every message names what was given and what is allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// A setting outside its range.
    #[error("`{key}` is {value}, but it must be {allowed}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// A tensor that can't be cut into blocks of one scale each.
    #[error("a tensor of shape {shape:?} can't be cut by {granularity}: {why}")]
    Blocks {
        /// The tensor's shape.
        shape: Vec<usize>,
        /// How it was to be cut.
        granularity: Granularity,
        /// What stands in the way.
        why: String,
    },
    /// A list of another length than its partner asks for.
    #[error("{what}: {got} values were given, {wanted} are needed")]
    Length {
        /// Which list.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length that fits.
        wanted: usize,
    },
    /// A tensor whose shape does not fit.
    #[error("{what} has shape {got:?}, but {wanted} is needed")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape in words.
        wanted: String,
    },
    /// Nothing was observed, or a tensor holds no element.
    #[error("{what} is empty: give it at least one value")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
    /// A value that is infinite or not a number.
    #[error("{what} holds {value} at index {index}: every value must be finite")]
    NonFinite {
        /// Which tensor.
        what: &'static str,
        /// The first such value.
        value: f32,
        /// Where it is, row-major.
        index: usize,
    },
    /// Every value is the same, where a spread is needed.
    #[error("{what} is constant, {value} everywhere: a range or a codebook can't be fitted to it")]
    Constant {
        /// Which tensor.
        what: &'static str,
        /// The value.
        value: f64,
    },
    /// The device could not hand its numbers over, in its own words.
    #[error("the numbers of {what} can't be read: {why}")]
    Read {
        /// Which tensor.
        what: &'static str,
        /// The device's message.
        why: String,
    },
    /// The graph could not be read or changed; unknown names come with the nearest ones.
    #[error(transparent)]
    Graph(#[from] kd_graph::GraphError),
    /// A plan that does not go with a graph, or asks for what can't be done.
    #[error("the plan can't be used: `{name}` {why}")]
    Plan {
        /// The layer, parameter or node.
        name: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A quantiser whose scale nobody has set.
    #[error("`{name}` is not initialised: show the network a batch with `initialise` before it is used")]
    Uninitialised {
        /// The parameter.
        name: String,
    },
    /// The network did not run, in its own words.
    #[error("the network did not run: {why}")]
    Run {
        /// What it said.
        why: String,
    },
    /// A layer that runs on no such device.
    #[error("{what} runs on `flex` only, not on {device}")]
    Device {
        /// What was asked for.
        what: &'static str,
        /// Where.
        device: String,
    },
}

/// `Ok` if `ok`, else an error that says what `key` must be.
pub(crate) fn in_range(
    key: &'static str,
    value: impl ToString,
    ok: bool,
    allowed: impl Into<String>,
) -> Result<(), QuantError> {
    if ok {
        return Ok(());
    }
    Err(QuantError::Setting { key, value: value.to_string(), allowed: allowed.into() })
}
