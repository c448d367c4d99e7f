//! Trains networks side by side on the same data and compares them: what the program and the examples are made of.
//!
//! A [`Study`] opens [`Data`] once. Every [`Plan`] is a row of its table: a network, an objective, perhaps teachers, trained once per seed by a
//! [`Run`](kd_train::Run) in a folder of its own and measured on the test split, which no choice depends on. At the end the study writes
//! `results.json` and `report.html`.

mod attention;
mod data;
mod error;
mod labels;
mod measure;
mod plan;
mod results;
mod study;

pub use data::Data;
pub use error::StudyError;
pub use labels::labels;
pub use measure::{Latency, Measured, measure};
pub use plan::{Plan, Task, zoo};
pub use results::{Candidate, Results};
pub use study::{Display, Study, StudySettings, Trained};
