//! Networks in integers: against their definition, against their training form.

#![allow(clippy::unwrap_used)]

mod methods;
mod nets;
mod small;
mod zoo;
