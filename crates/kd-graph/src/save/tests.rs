#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, TensorView};

use crate::*;

/// Every kind of tensor, a hard literal and an infinite one.
fn graph() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let weight = TensorData::new((0..8).map(|i| i as f32 / 7.0).collect(), [4, 2]);
    let tied = graph.parameter("fc.weight", Role::Weight, weight).unwrap();
    let half = TensorData::new(vec![0.5_f32, -1.5], [2]).convert_dtype(DType::F16);
    let bias = graph.parameter("fc.bias", Role::Buffer, half).unwrap();
    let fc = graph.add("fc", Op::Linear, &[x, tied, bias]).unwrap();
    let mask = graph.constant("mask", TensorData::new(vec![true, false], [1, 2])).unwrap();
    let value = Scalar::Float(f64::NEG_INFINITY);
    let filled = graph.add("filled", Op::MaskFill { value }, &[fc, mask]).unwrap();
    let op = Op::Literal { op: Binary::Mul, value: Scalar::Float(f64::from(0.1_f32)) };
    let scaled = graph.add("scaled", op, &[filled]).unwrap();
    let picks = graph.constant("picks", TensorData::new(vec![1_i64, 0, 1], [3])).unwrap();
    let picked = graph.add("picked", Op::Select { axis: 1 }, &[scaled, picks]).unwrap();
    let norm = Op::Softmax { axis: 1 };
    let soft = graph.add("soft", norm, &[picked]).unwrap();
    graph.set_outputs(&[soft, fc]).unwrap();
    graph
        .edit(|edit| edit.set_op(tied, Op::Parameter { role: Role::Weight, aliases: vec!["head".into()] }))
        .unwrap();
    graph
}

fn saved() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.json");
    graph().save(&path).unwrap();
    (folder, path)
}

/// The message with its causes.
fn message(error: &FileError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[test]
fn what_is_loaded_is_what_was_saved_bit_for_bit() {
    let (folder, path) = saved();
    let loaded = Graph::load(&path).unwrap();
    assert_eq!(loaded, graph());
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let [first, second] = [&path, &folder.path().join("again.json")].map(|path| {
        loaded.save(path).unwrap();
        [path.clone(), path.with_extension("safetensors")].map(|file| std::fs::read(file).unwrap())
    });
    assert_eq!(first, second);
}

#[test]
fn a_loaded_graph_can_be_edited_without_taking_numbers_twice() {
    let (_folder, path) = saved();
    let mut loaded = Graph::load(&path).unwrap();
    let soft = loaded.find("soft").unwrap();
    let new = loaded.add("new", Op::Activation(Activation::Tanh), &[soft]).unwrap();
    assert!(graph().node(new).is_err());
    loaded.validate().unwrap();
}

/// Replaces text in the graph's file.
fn with(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Writes other tensors, with the checksum that the graph's file expects.
fn with_tensors(path: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) {
    let old = crc32fast::hash(&std::fs::read(path.with_extension("safetensors")).unwrap());
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(path.with_extension("safetensors"), &bytes).unwrap();
    with(path, &old.to_string(), &crc32fast::hash(&bytes).to_string());
}

#[test]
fn a_hostile_or_foreign_file_is_an_error_that_says_what_was_found() {
    type Harm = fn(&Path);
    let harms: Vec<(&str, Harm)> = vec![
        ("cannot read", |path| std::fs::remove_file(path).unwrap()),
        ("cannot read", |path| std::fs::remove_file(path.with_extension("safetensors")).unwrap()),
        ("is not a graph: expected", |path| std::fs::write(path, "weights").unwrap()),
        ("missing field `format`", |path| std::fs::write(path, "{\"layers\": []}").unwrap()),
        ("format is `onnx`", |path| with(path, "kd-graph", "onnx")),
        ("has version 2", |path| with(path, "\"version\": 1", "\"version\": 2")),
        ("EOF while parsing", |path| {
            let text = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, &text[..text.len() / 2]).unwrap();
        }),
        ("unknown variant `sorftmax`", |path| with(path, "\"softmax\"", "\"sorftmax\"")),
        ("no axis 7", |path| with(path, "\"axis\": 1", "\"axis\": 7")),
        ("called `fc` exists", |path| with(path, "\"name\": \"soft\"", "\"name\": \"fc\"")),
        ("not in this graph", |path| with(path, "\"outputs\": [", "\"outputs\": [99,")),
        ("still free", |path| with(path, "\"next\": 10", "\"next\": 3")),
        ("a tensor `fc.weight`", |path| with(path, "\"name\": \"fc.weight\"", "\"name\": \"soft.weight\"")),
        ("safetensors format", |path| std::fs::write(path.with_extension("safetensors"), "PK\u{3}").unwrap()),
        ("safetensors format", |path| {
            let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
            std::fs::write(path.with_extension("safetensors"), &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("its checksum is", |path| {
            let mut bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(path.with_extension("safetensors"), bytes).unwrap();
        }),
        ("no tensor `fc.weight`", |path| with_tensors(path, &[])),
        ("a tensor `extra`", |path| with_tensors(path, &[("extra", Dtype::F32, &[0], vec![])])),
        ("holds BOOL", |path| with_tensors(path, &[("mask", Dtype::BOOL, &[1, 2], vec![1, 7])])),
        ("holds F8_E4M3", |path| with_tensors(path, &[("fc.bias", Dtype::F8_E4M3, &[2], vec![0; 2])])),
        ("it holds [3, 2] but is said to be [4, 2]", |path| {
            let f32s = |count: usize| vec![0; 4 * count];
            with_tensors(
                path,
                &[
                    ("fc.weight", Dtype::F32, &[3, 2], f32s(6)),
                    ("fc.bias", Dtype::F32, &[2], f32s(2)),
                    ("mask", Dtype::BOOL, &[1, 2], vec![0, 1]),
                    ("picks", Dtype::I64, &[3], vec![0; 24]),
                ],
            );
        }),
    ];
    for (wanted, harm) in harms {
        let (_folder, path) = saved();
        harm(&path);
        let message = message(&Graph::load(&path).expect_err(wanted));
        assert!(message.contains(wanted) && message.contains("net."), "{wanted}: {message}");
    }
}

#[test]
fn a_graph_is_not_saved_over_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let error = graph().save(folder.path().join("net.safetensors")).unwrap_err();
    assert!(message(&error).contains(".json"), "{error}");
    let error = graph().save(folder.path().join("missing/net.json")).unwrap_err();
    assert!(message(&error).contains("cannot write"), "{error}");
}

#[test]
fn sizes_that_overflow_are_refused() {
    let (_folder, path) = saved();
    let huge = format!("\"fixed\": {}", usize::MAX);
    with(&path, "\"fixed\": 4", &huge);
    let message = message(&Graph::load(&path).unwrap_err());
    assert!(message.contains("18446744073709551615 features"), "{message}");
}
