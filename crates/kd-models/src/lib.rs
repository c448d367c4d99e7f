//! Image classifiers for kd: small, classic networks with named taps.
#![doc = include_str!("../README.md")]

mod builder;
mod error;
mod init;
mod input_shape;
pub mod lenet;
pub mod mlp;
pub mod mobilenet_v2;
mod models;
pub mod resnet;
mod spec;
pub mod vgg;
pub mod wide_resnet;
mod zoo;

pub use error::ModelError;
pub use init::{force_init, parameter_count};
pub use input_shape::InputShape;
pub use lenet::{LeNet5, LeNet5Config};
pub use mlp::{Mlp, MlpConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use models::{MODELS, ModelInfo};
pub use resnet::{ResNet, ResNetConfig};
pub use spec::ModelSpec;
pub use vgg::{Vgg, VggConfig};
pub use wide_resnet::{WideResNet, WideResNetConfig};
pub use zoo::{Architecture, Zoo};
