//! A finished student loads into a plain burn module, with burn alone.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Device;
use common::{kd, stdout};
use tempfile::tempdir;

/// A user's own struct with the fields of the zoo's perceptron; nothing of kd.
#[derive(Module, Debug)]
struct Plain {
    hidden: Vec<Linear>,
    output: Linear,
}

#[test]
fn a_finished_student_loads_with_burn_alone() {
    let folder = tempdir().unwrap();
    let recipe = "data = { name = \"digits\", validation = 200, limit = 256 }\nstudent.model = \"mlp:16\"\nrun.epochs = 1\n";
    std::fs::write(folder.path().join("r.toml"), recipe).unwrap();
    stdout(kd(folder.path(), &["train", "r.toml", "-q", "--out", "run"]));

    let device = Device::flex();
    let hidden = vec![LinearConfig::new(784, 16).init(&device)];
    let plain = Plain { hidden, output: LinearConfig::new(16, 10).init(&device) };
    let student = plain.load_file(folder.path().join("run/mlp-16-seed-0/student.bpk"));
    let [rows, columns] = student.hidden[0].weight.val().dims();
    assert_eq!([rows, columns], [784, 16]);
    assert_eq!(student.output.weight.val().dims(), [16, 10]);
    let bias = student.output.bias.unwrap().val().into_data();
    assert!(bias.try_to_vec::<f32>().unwrap().iter().any(|&value| value != 0.0));
}
