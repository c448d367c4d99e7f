//! Models that cannot be traced say where and why.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kd_graph::{TraceError, trace};

use crate::device;

#[derive(Module, Debug)]
struct Net {
    first: Vec<Linear>,
    last: Linear,
}

fn net() -> Net {
    let linear = || LinearConfig::new(4, 4).init(&device());
    Net { first: vec![linear(), linear()], last: linear() }
}

/// The error of a pass that goes wrong after `first.1`.
fn error(wrong: impl Fn(Tensor<2>) -> Tensor<2>) -> TraceError {
    let x = Tensor::<2>::zeros([3, 4], &device());
    trace(&net(), x, |net, x| net.last.forward(wrong(net.first[1].forward(net.first[0].forward(x)))))
        .unwrap_err()
}

fn near() -> Option<String> {
    Some("first.1".into())
}

#[test]
fn a_branch_on_data_names_the_module_before_it() {
    let found = error(|x| if x.clone().sum().into_scalar::<f32>() > 0.0 { x } else { -x });
    let TraceError::Forward { module, .. } = &found else { panic!("{found:?}") };
    assert_eq!(*module, near());
    assert!(found.to_string().contains("`first.1`") && found.to_string().contains("mask_where"), "{found}");
}

#[test]
fn a_panic_of_the_model_is_passed_on_with_its_place() {
    let found = error(|_| panic!("heads must divide {}", 4));
    let TraceError::Forward { message, place, .. } = &found else { panic!("{found:?}") };
    assert_eq!(message, "heads must divide 4");
    assert!(place.as_ref().unwrap().contains("errors.rs"), "{place:?}");
}

#[test]
fn a_tensor_on_another_device_is_an_error() {
    let found = error(|x| x + Tensor::ones([1, 4], &Device::flex()));
    assert!(matches!(found, TraceError::Forward { .. }), "{found:?}");
}

#[test]
fn a_number_that_depends_on_the_batch_is_an_error() {
    let found = error(|x| {
        let batch = x.dims()[0] as f64;
        x / batch
    });
    let TraceError::BatchConstant { what, module, values } = &found else { panic!("{found:?}") };
    assert_eq!((what.as_str(), module), ("an attribute of `div`", &near()));
    assert!(values.contains("at batch 2") && values.contains("at batch 5"), "{values}");
}

#[test]
fn a_constant_that_depends_on_the_batch_is_an_error() {
    let found = error(|x| {
        let (rows, device) = (x.dims()[0], x.device());
        x * Tensor::<1>::from_data(burn::tensor::TensorData::new(vec![1f32; rows], [rows]), &device)
            .reshape([rows, 1])
    });
    assert!(matches!(&found, TraceError::BatchConstant { what, .. } if what == "a constant"), "{found:?}");
}

#[test]
fn a_size_that_is_no_multiple_of_the_batch_is_an_error() {
    let found = error(|x| {
        let row = x.clone().slice([0..1, 0..4]);
        Tensor::cat(vec![x, row], 0)
    });
    let TraceError::Shape { what, module, values } = &found else { panic!("{found:?}") };
    assert_eq!((what.as_str(), module), ("the shape of `cat`", &near()));
    assert!(values.contains("[3, 4] at batch 2") && values.contains("[6, 4] at batch 5"), "{values}");
}

#[test]
fn what_holds_at_two_batch_sizes_only_is_found_at_the_third() {
    let found = error(|x| {
        let rows = x.dims()[0].min(4);
        x.slice([0..rows, 0..4])
    });
    assert!(matches!(found, TraceError::Shape { .. }), "{found:?}");
}

#[test]
fn other_operations_at_another_batch_size_are_an_error() {
    let found = error(|x| if x.dims()[0] > 2 { x.exp() } else { x.tanh() });
    let TraceError::Structure { module, values } = &found else { panic!("{found:?}") };
    assert_eq!(*module, near());
    assert_eq!(values, "tanh at batch 2, exp at batch 3, exp at batch 5");
    let longer = error(|x| if x.dims()[0] > 3 { x.exp().exp() } else { x.exp() });
    assert!(matches!(longer, TraceError::Structure { .. }), "{longer:?}");
}

#[test]
fn an_output_of_another_device_is_an_error() {
    let x = Tensor::<2>::zeros([1, 4], &device());
    let found = trace(&net(), x, |net, x| (net.last.forward(x), Tensor::<1>::zeros([1], &Device::flex())))
        .unwrap_err();
    assert_eq!(found, TraceError::Output { index: 1 });
}

#[test]
fn a_trace_inside_a_trace_is_an_error_and_does_no_harm() {
    let x = || Tensor::<2>::zeros([1, 4], &device());
    let found = trace(&net(), x(), |net, y| {
        let inner = trace(net, x(), |net, x| net.last.forward(x)).unwrap_err();
        assert!(matches!(inner, TraceError::Capture { .. }), "{inner:?}");
        net.last.forward(y)
    });
    assert_eq!(found.unwrap().len(), 4);
}

#[test]
fn a_sample_without_tensors_is_an_error() {
    let found = trace(&net(), (), |net, ()| net.last.weight.val()).unwrap_err();
    assert!(found.to_string().contains("no tensor"), "{found}");
}

#[test]
fn tracing_works_after_an_error_and_from_several_threads() {
    let _ = error(|_| panic!("once"));
    let traces: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let x = Tensor::<2>::zeros([1, 4], &device());
                trace(&net(), x, |net, x| net.last.forward(x)).unwrap().len()
            })
        })
        .collect();
    assert!(traces.into_iter().all(|trace| trace.join().unwrap() == 4));
}
