//! One type for every architecture.

use std::fmt;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};

use crate::error::ModelError;
use crate::input_shape::InputShape;
use crate::{
    LeNet5, LeNet5Config, Mlp, MlpConfig, MobileNetV2, MobileNetV2Config, ResNet, ResNetConfig, Vgg,
    VggConfig, WideResNet, WideResNetConfig,
};

/// Declares the architectures: one line each.
macro_rules! zoo {
    ($($(#[$doc:meta])* $name:ident($config:ident),)*) => {
        /// The settings of any architecture.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Architecture {
            $($(#[$doc])* $name($config),)*
        }

        impl Architecture {
            /// Reads a name; `None` if no architecture has it.
            pub(crate) fn parse(name: &str) -> Result<Option<Self>, ModelError> {
                $(if let Some(config) = $config::parse(name)? {
                    return Ok(Some(Self::$name(config)));
                })*
                Ok(None)
            }

            /// Makes the model, its parameters initialised on `device`: seed the device before.
            ///
            /// # Errors
            /// As the architecture's own `init`.
            pub fn init(&self, shape: InputShape, classes: usize, device: &Device) -> Result<Zoo, ModelError> {
                Ok(match self {
                    $(Self::$name(config) => Zoo::$name(config.init(shape, classes, device)?),)*
                })
            }
        }

        /// A model of any architecture of this crate: images `[batch, channels, height, width]` to logits `[batch, classes]`.
        ///
        /// Its parameters have the paths of the model inside, so their records are interchangeable.
        // A program holds a few models: boxing would save nothing.
        #[allow(clippy::large_enum_variant)]
        #[derive(Clone, Debug)]
        pub enum Zoo {
            $($(#[$doc])* $name($name),)*
        }

        /// Runs `$body` with `$model` bound to the model inside.
        macro_rules! with {
            ($zoo:expr, $model:ident => $body:expr) => {
                match $zoo { $(Zoo::$name($model) => $body,)* }
            };
        }

        /// As `with`, and wraps the result in the same variant.
        macro_rules! map {
            ($zoo:expr, $model:ident => $body:expr) => {
                match $zoo { $(Zoo::$name($model) => Zoo::$name($body),)* }
            };
        }

        $(impl From<$name> for Zoo {
            fn from(model: $name) -> Self {
                Self::$name(model)
            }
        })*
    };
}

zoo! {
    /// Multi-layer perceptrons.
    Mlp(MlpConfig),
    /// LeNet-5 of any width.
    LeNet5(LeNet5Config),
    /// Residual networks.
    ResNet(ResNetConfig),
    /// Wide residual networks.
    WideResNet(WideResNetConfig),
    /// VGG with batch normalisation.
    Vgg(VggConfig),
    /// MobileNetV2.
    MobileNetV2(MobileNetV2Config),
}

// By hand, because the derived implementation would put the variant's name before every path.
impl Module for Zoo {
    fn collect_devices(&self, devices: Devices) -> Devices {
        with!(self, model => model.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        map!(self, model => model.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        map!(self, model => model.to_device(device))
    }

    fn train(self) -> Self {
        map!(self, model => model.train())
    }

    fn valid(&self) -> Self {
        map!(self, model => model.valid())
    }

    fn materialize(self) -> Self {
        map!(self, model => model.materialize())
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        with!(self, model => model.visit(visitor));
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        map!(self, model => model.map(mapper))
    }
}

impl ModuleDisplayDefault for Zoo {
    fn content(&self, content: Content) -> Option<Content> {
        with!(self, model => model.content(content))
    }
}

impl ModuleDisplay for Zoo {}

impl fmt::Display for Zoo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with!(self, model => model.fmt(f))
    }
}

impl Network for Zoo {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        with!(self, model => model.forward(input, taps))
    }

    fn macs(&self) -> Option<u64> {
        with!(self, model => model.macs())
    }
}
