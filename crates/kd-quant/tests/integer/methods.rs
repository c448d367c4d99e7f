//! Every method's integer form.

use burn::tensor::{Device, Tensor};
use kd_models::InputShape;
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::{Ends, PlanSettings, QuantPlan, Quantizer};

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
fn layers_whose_weights_are_a_table_of_levels_are_named_although_they_read_codes() {
    let uneven = |method: &str| vec![format!("the levels of its weight ({method}) are not evenly spaced")];
    let table = |by: &str| format!("the values of its weight are a table ({by})");
    for (settings, reasons) in [
        (PlanSettings::power_of_two(4).unwrap(), uneven("power-of-two")),
        (PlanSettings::ttq(), uneven("ttq")),
        (PlanSettings::abc_net(3, 3).unwrap(), uneven("abc-weight")),
        (PlanSettings::apot(4).unwrap(), uneven("apot-weight")),
        (PlanSettings::shared(3).unwrap(), vec![table("share.codebook")]),
        // A hashed linear layer is one operation with its weight.
        (
            PlanSettings::hashed(4).unwrap(),
            vec![table("share.hashed-weight"), "share.hashed-linear has no integer form".to_owned()],
        ),
    ] {
        let codes = Quantizer::lsq_activation(8).unwrap();
        let settings = PlanSettings { ends: Ends::Same, ..PlanSettings::new(settings.weights, Some(codes)) };
        let layers = QuantPlan::new(&graph("lenet5-tenth", MNIST), &settings).unwrap().weights.len();
        let (float, _) = form(&settings);
        let named = |line: &&String| reasons.iter().any(|reason| line.contains(reason));
        let count = float.iter().filter(named).count();
        assert!(layers > 2 && count == layers, "{reasons:?}: {count} of {layers} layers\n{float:#?}");
    }
}

#[test]
fn activations_that_are_a_table_of_levels_are_named_and_layers_behind_read_no_codes() {
    let (float, _) = form(&PlanSettings::abc_net(3, 3).unwrap());
    let because = |reason: &str| float.iter().filter(|line| line.ends_with(reason)).count();
    let tables = because("the levels of abc-activation are not evenly spaced");
    // All layers but the first and the last, which the plan leaves out.
    let layers = ["conv2", "fc1"].map(|name| format!("{name}: its input is not quantised"));
    assert!(tables == layers.len() && layers.iter().all(|line| float.contains(line)), "{float:#?}");
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
