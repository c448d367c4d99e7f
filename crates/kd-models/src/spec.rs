//! A model by its name.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ModelError, in_range};
use crate::input_shape::InputShape;
use crate::models::MODELS;
use crate::zoo::{Architecture, Zoo};

/// Which model to make: the name in a recipe, read and checked.
///
/// A plain string (`"resnet20"`, `"mlp:1200,1200;dropout=0.2,0.5"`) or a table (`{ name = "mlp:1200,1200", dropout = [0.2, 0.5] }`); dropout is that
/// of the input and that of every hidden layer. [`MODELS`] lists the names. It is written back as a string.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::{Network, Taps};
/// use kd_models::{InputShape, ModelSpec};
///
/// let device = Device::flex();
/// device.seed(1);
/// let model = "lenet5-tenth".parse::<ModelSpec>()?.init(InputShape::MNIST, 10, &device)?;
/// let taps = model.run(Tensor::zeros([2, 1, 28, 28], &device), Taps::only(["stage1", "features"]));
/// assert_eq!(taps.get::<4>("stage1")?.dims(), [2, 6, 12, 12]);
/// assert_eq!(taps.get::<2>(kd_core::OUTPUT)?.dims(), [2, 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    name: String,
    architecture: Architecture,
}

impl ModelSpec {
    fn new(base: &str, dropout: Option<[f64; 2]>) -> Result<Self, ModelError> {
        let unknown = || ModelError::Unknown {
            name: base.to_owned(),
            known: MODELS.iter().map(|model| model.name).collect(),
            nearest: nearest(base),
        };
        let mut architecture = Architecture::parse(base)?.ok_or_else(unknown)?;
        let mut name = base.to_owned();
        if let Some([input, hidden]) = dropout {
            let value = format!("{input},{hidden}");
            let Architecture::Mlp(config) = &mut architecture else {
                return Err(dropout_error(base, value, "left out: only mlp models have it"));
            };
            let ok = dropout.iter().flatten().all(|rate| (0.0..1.0).contains(rate));
            in_range(base, "dropout", &value, ok, "two rates, each at least 0 and below 1: INPUT,HIDDEN")?;
            config.dropout = [input, hidden];
            name = format!("{base};dropout={value}");
        }
        Ok(Self { name, architecture })
    }

    /// The settings that the name stands for.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Makes the model for images of the given shape, its parameters initialised: seed the device before.
    ///
    /// # Errors
    /// [`ModelError::TooSmall`] and [`ModelError::Empty`] for images that it can't take, [`ModelError::NoClasses`].
    pub fn init(&self, shape: InputShape, classes: usize, device: &Device) -> Result<Zoo, ModelError> {
        self.architecture.init(shape, classes, device)
    }
}

/// The example of a model that is most like a name, if one is like it at all.
fn nearest(name: &str) -> Option<&'static str> {
    let examples = MODELS.iter().map(|model| (strsim::jaro_winkler(name, model.example), model.example));
    let (likeness, example) = examples.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.8).then_some(example)
}

fn dropout_error(model: &str, value: impl Into<String>, allowed: &str) -> ModelError {
    ModelError::OutOfRange {
        model: model.into(),
        key: "dropout",
        value: value.into(),
        allowed: allowed.into(),
    }
}

impl FromStr for ModelSpec {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let Some((base, option)) = text.trim().split_once(';') else { return Self::new(text.trim(), None) };
        let wrong = || ModelError::OutOfRange {
            model: base.to_owned(),
            key: "option",
            value: option.to_owned(),
            allowed: "dropout=INPUT,HIDDEN".into(),
        };
        let rates = option.trim().strip_prefix("dropout=").and_then(|rates| rates.split_once(','));
        let (input, hidden) = rates.ok_or_else(wrong)?;
        let rate = |text: &str| text.trim().parse().map_err(|_| wrong());
        Self::new(base.trim(), Some([rate(input)?, rate(hidden)?]))
    }
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Serialize for ModelSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

/// The table form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    dropout: Option<[f64; 2]>,
}

impl<'de> Deserialize<'de> for ModelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ModelSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model's name or a table of name and dropout")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ModelSpec, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelSpec, A::Error> {
                let Table { name, dropout } = Table::deserialize(MapAccessDeserializer::new(map))?;
                let spec = match dropout {
                    None => name.parse(),
                    Some(rates) => ModelSpec::new(&name, Some(rates)),
                };
                spec.map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
