//! Networks in integers: against their definition, against their training form.

#![allow(clippy::unwrap_used, clippy::panic)]

mod concatenations;
mod layers;
mod methods;
mod nets;
mod pools;
mod reference;
mod small;
mod sums;
#[path = "../../../kd-models/tests/support/trained_like.rs"]
mod trained_like;
mod zoo;
