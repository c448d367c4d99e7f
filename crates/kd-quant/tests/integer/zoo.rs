//! Every model of the zoo at 8 bits, and some at fewer.

use burn::tensor::{Device, Tensor};
use kd_models::InputShape;
use kd_quant::integer::{IntegerNetwork, IntegerSettings, Products, Requantization};
use kd_quant::plan::PlanSettings;

use crate::nets::{batch, graph, numbers, quantised};

const MNIST: InputShape = InputShape::MNIST;
const SMALL: InputShape = InputShape::new(3, 8, 8);

/// Small members of each family.
const ZOO: [(&str, InputShape); 8] = [
    ("linear", MNIST),
    ("mlp:12,8", MNIST),
    ("mlp-bn:12,8", MNIST),
    ("lenet5-tenth", MNIST),
    ("resnet8", SMALL),
    ("wrn10-1", SMALL),
    ("vgg8", SMALL),
    ("mobilenetv2", SMALL),
];

#[test]
fn every_model_runs_in_integers_and_a_step_differs_by_one_code_at_most() {
    for (name, image) in ZOO {
        let mut float = graph(name, image);
        float.fold_batch_norm().unwrap();
        float.remove_dead().unwrap();
        let graph = quantised(&float, &PlanSettings::int8().unwrap(), image);
        let network = IntegerNetwork::<Tensor<4>>::new(&graph, &Device::flex()).unwrap();
        assert_eq!(network.float_nodes(), [], "{name}");
        let agreement = network.agreement([batch(7, image), batch(1, image)]).unwrap();
        let steps = agreement.steps();
        assert!(steps.greatest <= 1 && steps.rate() < 0.01, "{name}\n{agreement}");
        // Through the network differences add up: an untrained one of fifty layers may turn them into another class.
        let (rows, other) = agreement.rows;
        assert!(rows == 8 && (other == 0 || name == "mobilenetv2"), "{name}\n{agreement}");
    }
}

#[test]
fn packed_products_give_what_the_definition_gives() {
    let reference = IntegerSettings { products: Products::Reference, ..IntegerSettings::default() };
    for (name, image) in ZOO {
        let float = graph(name, image);
        for bits in [8, 4] {
            let graph = quantised(&float, &PlanSettings::lsq(bits).unwrap(), image);
            let device = Device::flex();
            let fast = IntegerNetwork::<Tensor<4>>::new(&graph, &device).unwrap();
            let slow = IntegerNetwork::<Tensor<4>>::with_settings(&graph, &device, reference).unwrap();
            for count in [1, 7] {
                let results =
                    [&fast, &slow].map(|network| numbers(&network.run(batch(count, image)).unwrap()));
                assert_eq!(results[0], results[1], "{name} at {bits} bits, {count} images");
            }
        }
    }
}

#[test]
fn an_image_gives_the_same_alone_and_among_others() {
    let graph = quantised(&graph("resnet8", SMALL), &PlanSettings::int8().unwrap(), SMALL);
    let network = IntegerNetwork::<Tensor<4>>::new(&graph, &Device::flex()).unwrap();
    let alone = numbers(&network.run(batch(1, SMALL)).unwrap());
    assert_eq!(numbers(&network.run(batch(7, SMALL)).unwrap())[..10], alone);
}

#[test]
fn a_normalisation_that_was_not_folded_is_merged_all_the_same() {
    for name in ["resnet8", "mlp-bn:12,8"] {
        let image = if name == "resnet8" { SMALL } else { MNIST };
        let graph = quantised(&graph(name, image), &PlanSettings::lsq(4).unwrap(), image);
        let network = IntegerNetwork::<Tensor<4>>::new(&graph, &Device::flex()).unwrap();
        assert_eq!(network.float_nodes(), [], "{name}");
        let agreement = network.agreement([batch(7, image)]).unwrap();
        assert!(agreement.steps().greatest <= 1, "{name}\n{agreement}");
    }
}

#[test]
fn fixed_point_differs_from_float_by_one_code_at_most() {
    let mut float = graph("lenet5-tenth", MNIST);
    float.fold_batch_norm().unwrap();
    let graph = quantised(&float, &PlanSettings::int8().unwrap(), MNIST);
    let settings =
        IntegerSettings { requantization: Requantization::FixedPoint, ..IntegerSettings::default() };
    let network = IntegerNetwork::<Tensor<4>>::with_settings(&graph, &Device::flex(), settings).unwrap();
    let agreement = network.agreement([batch(7, MNIST)]).unwrap();
    assert!(agreement.steps().greatest <= 1, "{agreement}");
}
