#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod augment;
mod checksum;
mod dataset;
pub mod digits;
mod error;
mod fetch;
mod form_used;
mod image_dataset;
mod images;
mod loader;
pub mod manifest;
mod normalise;
mod open;
pub mod read;
mod search;
mod seed;
mod split;
#[cfg(test)]
mod testing;

pub use augment::Augment;
pub use checksum::Published;
pub use dataset::{Dataset, Pass};
pub use error::DataError;
pub use fetch::{Attempt, Reason, fetch, fetch_manifest};
pub use form_used::{FileUsed, FormUsed, Verified};
pub use image_dataset::{ImageBatch, ImageDataset, Mix};
pub use images::{ChannelStatistics, ImageShape, Images};
pub use loader::{Epoch, Loaded, Loader, LoaderSettings};
pub use manifest::{Manifest, manifest, manifests};
pub use normalise::Normalise;
pub use open::{Opened, open, open_manifest};
pub use search::Search;
pub use seed::{Stream, mix};
