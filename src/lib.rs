//! Model compression for [burn](https://burn.dev): distil, measure, ship.
//!
//! This package is the facade: it re-exports the libraries and adds what the `kd` program and the examples share.
//!
//! | module | from | content |
//! |---|---|---|
//! | [`data`] | `kd-data` | datasets, augmentation, loaders |
//! | [`core`] | `kd-core` | networks with taps, losses, terms, objectives |
//! | [`graph`] | `kd-graph` | traced models: cost, rewrites, pictures |
//! | [`models`] | `kd-models` | the zoo |
//! | [`prune`] | `kd-prune` | scores, masks, physical removal |
//! | [`quant`] | `kd-quant` | quantisers, plans, networks in integers |
//! | [`train`] | `kd-train` | runs, teachers, metrics, checkpoints, reports |
//! | [`recipe`] | here | what to train, in a TOML file |
//! | [`experiment`] | here | networks trained and compared side by side |
//! | [`quantising`] | here | networks quantised while they train and compared |
//! | [`pruning`] | here | networks pruned, recovered and compared |
//! | [`program`] | here | what every program needs: options, logging, exit codes |
//!
//! Backends are Cargo features, `flex` by default; [`DeviceName`] chooses among them at run time.

pub use kd_core as core;
pub use kd_data as data;
pub use kd_graph as graph;
pub use kd_models as models;
pub use kd_prune as prune;
pub use kd_quant as quant;
pub use kd_train as train;

mod device;
pub mod experiment;
pub mod program;
pub mod pruning;
pub mod quantising;
pub mod recipe;

pub use device::{DeviceError, DeviceName};

/// What most programs use.
pub mod prelude {
    pub use burn::module::Module;
    pub use burn::tensor::{Device, Tensor};
    pub use kd_core::losses::LossSettings;
    pub use kd_core::{Network, Objective, Schedule, Step, Taps, Term, TermError, Wants};
    pub use kd_models::ModelSpec;
    pub use kd_prune::{Budget, ChannelPruner, PrunePlan, Pruner};
    pub use kd_quant::integer::IntegerNetwork;
    pub use kd_quant::plan::{PlanSettings, QuantPlan};
    pub use kd_train::{OptimizerSettings, RunSettings, Start};

    pub use crate::experiment::{Data, Plan, Study, Task, labels, zoo};
    pub use crate::program::{Common, Program};
    pub use crate::recipe::{CacheSettings, DataSettings, Recipe};
}

/// The README's example has to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
