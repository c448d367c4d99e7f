//! Why a model could not be traced.

use crate::GraphError;

/// Why a model could not be traced. A model that cannot be traced still trains and distils natively.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TraceError {
    /// The sample holds no tensor, or not what the options speak of.
    #[error("the sample: {reason}")]
    Sample {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The forward pass panicked, as a data-dependent one does: a trace has shapes, but no numbers to decide on.
    #[error(
        "the forward pass stopped {}{}: {message}. A trace records shapes and no numbers: a forward pass that reads a value out of a \
         tensor (`into_scalar`, `to_data`, a branch on data) or puts tensors on a device other than its input's cannot be traced; \
         write it with tensor operations (`mask_where`), make tensors on `x.device()` and move captured ones there, or train it natively",
        near(module), place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default()
    )]
    Forward {
        /// Path of the last module that was recorded before, if any.
        module: Option<String>,
        /// File and line of the panic.
        place: Option<String>,
        /// What it said.
        message: String,
    },
    /// burn recorded an operation that graphs do not know.
    #[error(
        "no graph operation for burn's `{op}`, {}. Write it with other operations, register it with `Tracer::custom`, or train this model \
         natively",
        near(module)
    )]
    Unsupported {
        /// burn's name of the operation.
        op: String,
        /// Path of the nearest module before it, if any.
        module: Option<String>,
    },
    /// A tensor or number made in the forward pass depends on the batch size.
    #[error(
        "{what}, {}, depends on the batch size: {values}. A graph works at every batch size; make it from a tensor of the batch (a mean \
         instead of a sum over the batch, `zeros` and `expand` instead of data of the batch's size)",
        near(module)
    )]
    BatchConstant {
        /// Which attribute or constant.
        what: String,
        /// Path of the nearest module before it, if any.
        module: Option<String>,
        /// What it is at the batch sizes tried.
        values: String,
    },
    /// A size is neither fixed nor a multiple of the batch.
    #[error(
        "{what}, {}, is neither fixed nor a multiple of the batch size: {values}. Say which axis of every input is the batch with \
         `Tracer::batch_axis`",
        near(module)
    )]
    Shape {
        /// Of which operation.
        what: String,
        /// Path of the nearest module before it, if any.
        module: Option<String>,
        /// What it is at the batch sizes tried.
        values: String,
    },
    /// Other operations are executed at another batch size.
    #[error("the forward pass is another one at another batch size, {}: {values}", near(module))]
    Structure {
        /// Path of the nearest module before the difference, if any.
        module: Option<String>,
        /// What was recorded at the batch sizes tried.
        values: String,
    },
    /// A result does not come from the forward pass on the traced device.
    #[error(
        "output {index} was not computed by the recorded forward pass: return tensors on the device of the inputs"
    )]
    Output {
        /// Its place among the outputs.
        index: usize,
    },
    /// burn refused to record.
    #[error("burn could not record: {reason}")]
    Capture {
        /// What burn says.
        reason: String,
    },
    /// The graph could not be put together.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

fn near(module: &Option<String>) -> String {
    match module.as_deref() {
        None => "before any module with parameters".to_owned(),
        Some("") => "after a parameter of the model itself".to_owned(),
        Some(path) => format!("at or after module `{path}`"),
    }
}
