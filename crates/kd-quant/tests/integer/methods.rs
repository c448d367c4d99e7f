//! Every method's integer form.

use burn::tensor::{Device, Tensor};
use kd_models::InputShape;
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::PlanSettings;

use crate::nets::{batch, graph, quantised};

const MNIST: InputShape = InputShape::MNIST;

/// The reasons for which nodes stay in float, and how far the two forms are apart.
fn form(settings: &PlanSettings) -> (Vec<String>, f64) {
    let graph = quantised(&graph("lenet5-tenth", MNIST), settings, MNIST);
    let network = IntegerNetwork::<Tensor<4>>::new(&graph, &Device::flex()).unwrap();
    let agreement = network.agreement([batch(7, MNIST)]).unwrap();
    let steps = agreement.steps();
    assert!(steps.greatest <= 1, "{agreement}");
    let line = |node: &kd_quant::integer::FloatNode| format!("{}: {}", node.name, node.reason);
    (network.float_nodes().iter().map(line).collect(), steps.rate())
}

#[test]
fn evenly_spaced_levels_have_integers() {
    for bits in [2, 3, 4, 8] {
        let (float, rate) = form(&PlanSettings::lsq(bits).unwrap());
        assert!(float.is_empty() && rate < 0.01, "{bits}: {float:?} {rate}");
    }
}

#[test]
fn layers_that_the_plan_left_out_are_named() {
    let (float, _) = form(&PlanSettings::dorefa(4, 4, None).unwrap());
    let layers = float.iter().filter(|line| line.contains("not quantised")).count();
    assert!(layers >= 2 && float.iter().all(|line| !line.contains("table")), "{float:?}");
}

#[test]
fn tables_of_levels_are_named() {
    for settings in [PlanSettings::power_of_two(4).unwrap(), PlanSettings::abc_net(3, 3).unwrap()] {
        let (float, _) = form(&settings);
        assert!(!float.is_empty(), "{settings:?}");
    }
}

#[test]
fn binary_networks_sum_up_signs() {
    for settings in [PlanSettings::xnor(), PlanSettings::bnn(), PlanSettings::sibnn(), PlanSettings::sttn()] {
        let (float, rate) = form(&settings);
        let inner = float.iter().filter(|line| line.starts_with("conv2") || line.starts_with("fc1")).count();
        assert!(inner == 0, "{settings:?}\n{float:?}");
        assert!(rate < 0.02, "{settings:?} {rate}");
    }
}

#[test]
fn behind_a_binary_layer_maximum_normalisation_and_sign_are_one_threshold() {
    let (float, _) = form(&PlanSettings::xnor());
    // Those behind the first layer, which is in float, are in float too; of those behind the second layer nothing is.
    let listed = |name: &str| float.iter().any(|line| line.starts_with(&format!("{name}: ")));
    assert!(listed("max_pool2d") && listed("max_pool2d.batch_norm"), "{float:#?}");
    assert!(!listed("max_pool2d_1") && !listed("max_pool2d_1.batch_norm"), "{float:#?}");
}
