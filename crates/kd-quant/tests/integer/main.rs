//! Networks in integers: against their definition, against their training form.

#![allow(clippy::unwrap_used)]

mod methods;
mod nets;
mod small;
#[path = "../../../kd-models/tests/support/trained_like.rs"]
mod trained_like;
mod zoo;
