//! Distillation for [burn](https://burn.dev): networks with taps, losses, terms and objectives.
#![doc = include_str!("../README.md")]

mod compiled;
pub mod losses;
mod network;
mod objective;
mod on_graph;
mod params;
mod reduction;
mod schedule;
mod settings;
mod taps;
mod term;
mod traced;
mod value;

pub use compiled::{Compiled, CompiledOutput};
pub use network::{Network, Output};
pub use objective::{Batch, Losses, Normalize, Objective, ObjectiveError, TermValue, WeightedTerm};
pub use on_graph::OnGraph;
pub use params::{ParamError, Params};
pub use reduction::Reduction;
pub use schedule::{Schedule, Time};
pub use settings::{SettingsError, in_range};
pub use taps::{OUTPUT, TapError, Taps};
pub use term::{Probe, Replay, Step, Term, TermError, TermParams, Wants};
pub use traced::Traced;
pub use value::{Kind, Value, ValueError};
