//! Names of models, as recipes write them.
#![allow(clippy::unwrap_used)]

use burn::tensor::Device;
use kd_models::{Architecture, InputShape, LeNet5Config, MODELS, MlpConfig, ModelError, ModelSpec};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Recipe {
    model: ModelSpec,
}

fn spec(name: &str) -> ModelSpec {
    name.parse().unwrap()
}

fn error(name: &str) -> String {
    name.parse::<ModelSpec>().unwrap_err().to_string()
}

#[test]
fn every_row_of_the_table_has_an_example_that_is_a_model() {
    for model in MODELS {
        assert_eq!(spec(model.example).to_string(), model.example);
    }
}

#[test]
fn an_unknown_name_is_an_error_that_lists_what_exists() {
    let message = error("resnet-20");
    assert!(
        message.starts_with("there is no model `resnet-20`; the models are: linear, mlp:A,B,..."),
        "{message}"
    );
    for name in
        ["", "mlp", "resnet", "lenet", "wrn16", "vgg", "ResNet20", "vgg8x", "lenet5x", "resnet+8", "resnet08"]
    {
        assert!(matches!(name.parse::<ModelSpec>(), Err(ModelError::Unknown { .. })), "{name}");
    }
}

#[test]
fn an_error_names_the_size_and_what_it_must_be() {
    assert_eq!(error("mlp:80,x"), "model `mlp:80,x`: width is `x`, but it must be 1 to 65536");
    assert!(error("mlp:0").contains("width is `0`"));
    assert!(error("mlp:").contains("width is ``"));
    assert!(error("mlp:99999999999999999999").contains("1 to 65536"));
    assert!(error("lenet5:8,16").contains("widths is `8,16`"));
    assert!(error("resnet21").contains("depth is `21`"));
    assert!(error("lenet5;dropout=0.1,0.2").contains("only mlp models have it"));
    assert!(error("mlp:8;dropout=0.5").contains("must be dropout=INPUT,HIDDEN"));
    assert!(error("mlp:8;dropout=0.5,1.0").contains("dropout is `0.5,1`"));
    assert!(error("mlp:8;dropout=NaN,0.5").contains("at least 0 and below 1"));
}

#[test]
fn the_sizes_in_a_name_are_those_of_the_model() {
    let config = LeNet5Config { channels: [8, 16], hidden: 80 };
    assert_eq!(spec("lenet5:8,16,80").architecture(), &Architecture::LeNet5(config));
    let config = MlpConfig { hidden: vec![300, 100], ..Default::default() };
    assert_eq!(spec("lenet300-100").architecture(), &Architecture::Mlp(config));
}

#[test]
fn a_table_and_a_string_mean_the_same() {
    let text = r#"model = "mlp:1200,1200;dropout=0.2,0.5""#;
    let table = r#"model = { name = "mlp:1200,1200", dropout = [0.2, 0.5] }"#;
    let text: Recipe = toml::from_str(text).unwrap();
    let table: Recipe = toml::from_str(table).unwrap();
    assert_eq!(text.model, table.model);
    let config = MlpConfig { hidden: vec![1200, 1200], dropout: [0.2, 0.5], ..Default::default() };
    assert_eq!(text.model.architecture(), &Architecture::Mlp(config));
    assert_eq!(toml::to_string(&table).unwrap().trim(), r#"model = "mlp:1200,1200;dropout=0.2,0.5""#);
}

#[test]
fn an_unknown_key_in_the_table_is_refused() {
    let error = toml::from_str::<Recipe>(r#"model = { name = "lenet5", width = 2 }"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `width`"), "{error}");
    let error = toml::from_str::<Recipe>("model = 5").unwrap_err();
    assert!(error.to_string().contains("a model's name or a table"), "{error}");
}

#[test]
fn impossible_images_and_classes_are_refused() {
    let device = Device::flex();
    let init = |name: &str, shape, classes| spec(name).init(shape, classes, &device).unwrap_err();
    for model in MODELS {
        let empty = InputShape::new(3, 0, 32);
        assert_eq!(init(model.example, empty, 10), ModelError::Empty { input: empty });
        assert_eq!(init(model.example, InputShape::CIFAR, 0), ModelError::NoClasses);
    }
    let error = init("lenet5", InputShape::new(1, 8, 8), 10).to_string();
    assert!(
        error.starts_with("images of 1x8x8 are too small: a window of 5x5 meets a map of 20x2x2"),
        "{error}"
    );
}
