#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Int, Tensor};
use burn_store::{ModuleSnapshot, SafetensorsStore};

use super::*;

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    head: Vec<Linear>,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([1, 2], [3, 3]).init(device),
            norm: BatchNormConfig::new(2).init(device),
            head: vec![LinearConfig::new(8, 4).init(device), LinearConfig::new(4, 3).init(device)],
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.norm.forward(self.conv.forward(x)).flatten(1, 3);
        self.head[1].forward(relu(self.head[0].forward(x)))
    }
}

/// The image for which `scripts/pytorch_state_dict.py` prints the output.
fn image(device: &Device) -> Tensor<4> {
    Tensor::<1, Int>::arange(0..16, device).float().reshape([1, 1, 4, 4]) / 16.0
}

/// A network whose running statistics have moved.
fn trained() -> Net {
    let device = Device::flex().autodiff();
    let net = Net::new(&device);
    net.forward(image(&device));
    net
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/conv_norm_linear.pt")
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn mismatch(error: WeightsError) -> Mismatch {
    match error {
        WeightsError::Mismatch { mismatch, .. } => mismatch,
        other => panic!("{other}"),
    }
}

#[test]
fn every_number_survives_either_format() {
    let folder = tempfile::tempdir().unwrap();
    let net = trained();
    for name in ["student.bpk", "student.safetensors"] {
        let path = folder.path().join(name);
        save(&net, &path).unwrap();
        let loaded = load(Net::new(&Device::flex()), &Source::new(&path)).unwrap();
        assert_eq!(fingerprint(&loaded).unwrap(), fingerprint(&net.valid()).unwrap(), "{name}");

        let bytes = std::fs::read(&path).unwrap();
        save(&loaded, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}: equal networks, different files");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left behind");
}

#[test]
fn a_square_layer_that_burn_wrote_is_not_transposed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("square.safetensors");
    let layer = LinearConfig::new(5, 5).init(&Device::flex());
    save(&layer, &path).unwrap();
    let loaded = load(LinearConfig::new(5, 5).init(&Device::flex()), &Source::new(&path)).unwrap();
    assert_eq!(numbers(loaded.weight.val()), numbers(layer.weight.val()));
}

#[test]
fn what_was_saved_loads_with_burn_alone() {
    let folder = tempfile::tempdir().unwrap();
    let net = trained();
    let expected = fingerprint(&net.valid()).unwrap();
    let path = folder.path().join("student.bpk");
    save(&net, &path).unwrap();
    assert_eq!(fingerprint(&Net::new(&Device::flex()).load_file(&path)).unwrap(), expected);

    let path = folder.path().join("student.safetensors");
    save(&net, &path).unwrap();
    let mut other = Net::new(&Device::flex());
    other.load_from(&mut SafetensorsStore::from_file(&path)).unwrap();
    assert_eq!(fingerprint(&other).unwrap(), expected);
}

#[test]
fn a_run_folder_stands_for_its_student() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(Net::new(&Device::flex()), &Source::new(folder.path())).unwrap_err();
    assert!(error.to_string().contains("holds no student.bpk"), "{error}");
    let net = trained();
    save(&net, &folder.path().join(STUDENT)).unwrap();
    let loaded = load(Net::new(&Device::flex()), &Source::new(folder.path())).unwrap();
    assert_eq!(fingerprint(&loaded).unwrap(), fingerprint(&net.valid()).unwrap());
}

#[test]
fn a_pytorch_state_dict_computes_what_pytorch_computes() {
    let device = Device::flex();
    let net = load(Net::new(&device), &Source::new(fixture())).unwrap();
    // python3 scripts/pytorch_state_dict.py crates/kd-train/tests/data/conv_norm_linear.pt
    let expected = [2.143_383_4, -0.684_298, -1.386_979_4];
    for (found, expected) in numbers(net.forward(image(&device))).into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn safetensors_that_burn_did_not_write_follow_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.safetensors");
    let net = load(Net::new(&Device::flex()), &Source::new(fixture())).unwrap();
    let store = SafetensorsStore::from_file(&path).with_to_adapter(burn_store::BurnToPyTorchAdapter);
    net.save_into(&mut store.clear_metadata().with_key_remapping("head\\.1", "head.2")).unwrap();
    let loaded = load(Net::new(&Device::flex()), &Source::new(&path)).unwrap();
    assert_eq!(fingerprint(&loaded).unwrap(), fingerprint(&net).unwrap());
    let forced = Source { layout: Layout::Burn, ..Source::new(&path) };
    assert!(mismatch(load(Net::new(&Device::flex()), &forced).unwrap_err()).missing.len() > 1);
}

#[test]
fn a_loaded_network_trains() {
    let device = Device::flex().autodiff();
    let net = load(Net::new(&device), &Source::new(fixture())).unwrap();
    let before = fingerprint(&net.valid()).unwrap();
    let gradients = GradientsParams::from_grads(net.forward(image(&device)).sum().backward(), &net);
    assert!(gradients.get::<2>(net.head[0].weight.id).is_some());
    let net = SgdConfig::new().init().step(0.1, net, gradients);
    assert_ne!(fingerprint(&net.valid()).unwrap(), before);
}

#[test]
fn half_precision_files_take_the_element_type_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let layer = LinearConfig::new(2, 2).init(&Device::flex());
    let half = burn_store::FloatCastAdapter::to(DType::F16);
    layer.save_into(&mut SafetensorsStore::from_file(&path).with_to_adapter(half)).unwrap();
    let loaded = load(LinearConfig::new(2, 2).init(&Device::flex()), &Source::new(&path)).unwrap();
    assert_eq!(loaded.weight.val().dtype(), DType::F32);
    for (found, expected) in numbers(loaded.weight.val()).into_iter().zip(numbers(layer.weight.val())) {
        assert!((found - expected).abs() < 1e-3);
    }
}

#[test]
fn renamed_keys_load_with_rules_and_not_without() {
    #[derive(Module, Debug)]
    struct Renamed {
        stem: Conv2d,
        stem_norm: BatchNorm,
        head: Vec<Linear>,
    }
    let device = Device::flex();
    let make = || {
        let Net { conv, norm, head } = Net::new(&device);
        Renamed { stem: conv, stem_norm: norm, head }
    };
    let plain = Source::new(fixture());
    let found = mismatch(load(make(), &plain).unwrap_err());
    assert_eq!(found.missing[0], ("stem.bias".to_owned(), vec![2]));
    assert_eq!(found.unexpected[0], ("conv.bias".to_owned(), vec![2]));

    let net =
        load(make(), &plain.remap("^conv\\.", "stem.").remap("^norm\\.(\\w+)$", "stem_norm.$1")).unwrap();
    let expected = load(Net::new(&device), &Source::new(fixture())).unwrap();
    assert_eq!(numbers(net.stem.weight.val()), numbers(expected.conv.weight.val()));
    assert_eq!(numbers(net.stem_norm.running_var.value()), numbers(expected.norm.running_var.value()));
}

#[test]
fn all_that_does_not_fit_is_listed_by_name_and_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.bpk");
    save(&trained(), &path).unwrap();
    let device = Device::flex();
    let mut other = Net::new(&device);
    other.head = vec![LinearConfig::new(8, 5).init(&device)];
    other.conv.bias = None;
    let error = load(other.clone(), &Source::new(&path)).unwrap_err();
    let text = error.to_string();
    for line in [
        "unexpected:  conv.bias [2]",
        "unexpected:  head.1.weight [4, 3]",
        "wrong shape: head.0.weight is [8, 5] in the network and [8, 4] in the file",
        "wrong shape: head.0.bias is [5] in the network and [4] in the file",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.starts_with(&path.display().to_string()) && !text.contains("missing: "), "{text}");

    other.head = vec![LinearConfig::new(8, 4).init(&device)];
    let source = Source { allow_unused: true, ..Source::new(&path) };
    assert!(load(other, &source).is_ok());
}

#[test]
fn rules_that_are_no_regular_expressions_or_merge_two_keys_are_errors() {
    let source = Source::new(fixture()).remap("conv(", "x");
    let error = load(Net::new(&Device::flex()), &source).unwrap_err();
    assert!(matches!(&error, WeightsError::Pattern { pattern, .. } if pattern == "conv("), "{error}");
    let source = Source::new(fixture()).remap("^norm", "conv");
    let error = load(Net::new(&Device::flex()), &source).unwrap_err();
    assert!(matches!(&error, WeightsError::Duplicate { name, .. } if name.starts_with("conv.")), "{error}");
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let net = trained();
    let (bpk, safetensors) = (folder.path().join("net.bpk"), folder.path().join("net.safetensors"));
    save(&net, &bpk).unwrap();
    save(&net, &safetensors).unwrap();
    for whole in [bpk, safetensors, fixture()] {
        let bytes = std::fs::read(&whole).unwrap();
        let torn = folder.path().join("torn").with_extension(whole.extension().unwrap());
        for length in (0..bytes.len()).step_by(bytes.len() / 40) {
            std::fs::write(&torn, &bytes[..length]).unwrap();
            let error = load(Net::new(&Device::flex()), &Source::new(&torn)).unwrap_err();
            assert!(error.to_string().starts_with(&torn.display().to_string()), "{error}");
        }
    }
}

#[test]
fn a_damaged_file_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let net = trained();
    let (bpk, safetensors) = (folder.path().join("net.bpk"), folder.path().join("net.safetensors"));
    save(&net, &bpk).unwrap();
    save(&net, &safetensors).unwrap();
    for whole in [bpk, safetensors, fixture()] {
        let bytes = std::fs::read(&whole).unwrap();
        let damaged = folder.path().join("damaged").with_extension(whole.extension().unwrap());
        let mut refused = 0;
        // Every place by itself takes a minute; all bits come up over these.
        for (turn, place) in (0..bytes.len()).step_by(17).enumerate() {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1 << (turn % 8);
            std::fs::write(&damaged, bytes).unwrap();
            refused += usize::from(load(Net::new(&Device::flex()), &Source::new(&damaged)).is_err());
        }
        assert!(refused > 5, "{refused} damaged {} were refused", damaged.display());
    }
}

#[test]
fn a_foreign_missing_or_nameless_file_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["foreign.bpk", "foreign.safetensors", "foreign.pt", "foreign.pth"] {
        let path = folder.path().join(name);
        let missing = load(Net::new(&Device::flex()), &Source::new(&path)).unwrap_err();
        assert!(matches!(missing, WeightsError::Io { .. }), "{missing}");
        std::fs::write(&path, "not what the name says, but long enough to hold any header".repeat(9))
            .unwrap();
        let error = load(Net::new(&Device::flex()), &Source::new(&path)).unwrap_err();
        assert!(matches!(error, WeightsError::Corrupt { .. }) && error.to_string().contains(name), "{error}");
    }
    for name in ["weights", "weights.onnx"] {
        let path = folder.path().join(name);
        assert!(matches!(save(&trained(), &path).unwrap_err(), WeightsError::Extension { .. }));
        std::fs::write(&path, "").unwrap();
        let error = load(Net::new(&Device::flex()), &Source::new(&path)).unwrap_err();
        assert!(error.to_string().contains(".bpk (burnpack), .safetensors"), "{error}");
    }
    assert!(matches!(save(&trained(), &folder.path().join("net.pt")), Err(WeightsError::ReadOnly { .. })));
}

#[test]
fn a_source_is_read_from_a_recipe_and_misspelt_keys_are_refused() {
    let source: Source = toml::from_str("path = 'teacher.pt'\nremap = [['^module\\.', '']]").unwrap();
    assert_eq!(source, Source::new("teacher.pt").remap("^module\\.", ""));
    assert!(toml::from_str::<Source>("path = 'teacher.pt'\nremaps = []").is_err());
}
