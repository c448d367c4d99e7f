//! Plans as files.
//!
//! A file speaks of the network as it is deployed, its batch normalisations folded into the layers in front: what `--post` and `analyse` see, too. So a plan
//! goes from any `kd quantize` to any other. While a network trains, its normalisations are there, and a plan names one of them where the deployed
//! network has the layer in front.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kd_graph::{Graph, GraphError, Op, Role};
use kd_quant::QuantError;
use kd_quant::plan::{Ends, PlanSettings, Point, QuantPlan, Quantizer};

use crate::experiment::StudyError;

/// Reads a plan that `kd quantize` has written.
///
/// # Errors
/// [`StudyError::Io`] and [`StudyError::PlanFile`].
pub fn read_plan(path: &Path) -> Result<QuantPlan, StudyError> {
    let bytes = std::fs::read(path).map_err(StudyError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|source| StudyError::PlanFile { path: path.to_owned(), source })
}

/// A plan for a float network, as it goes with the network's deployed form. A plan that is for this form already stays as it is.
///
/// # Errors
/// [`QuantError::Plan`] for a quantiser between a layer and the normalisation that is folded into it; [`QuantError::Graph`].
pub fn for_deployment(plan: QuantPlan, graph: &Graph) -> Result<QuantPlan, QuantError> {
    if plan.network != parameters(graph) {
        return Ok(plan);
    }
    let Deployed { network, norms } = Deployed::of(graph)?;
    if let Some((norm, layer)) = norms.iter().find(|(_, layer)| plan.activations.contains_key(*layer)) {
        let why = format!("is quantised in front of `{norm}`, which is folded into it: quantise `{norm}`");
        return Err(QuantError::Plan { name: layer.clone(), why });
    }
    let folded = plan.folded.iter().filter(|norm| !norms.contains_key(*norm)).cloned().collect();
    Ok(QuantPlan { network, folded, activations: renamed(plan.activations, &norms), ..plan })
}

/// A plan for the deployed form of a float network, as it goes with the network itself, which is to train. A plan that is for it already stays as it is.
///
/// # Errors
/// [`QuantError::Graph`].
pub fn for_training(plan: QuantPlan, graph: &Graph) -> Result<QuantPlan, QuantError> {
    let own = parameters(graph);
    let Deployed { network, norms } = Deployed::of(graph)?;
    if plan.network == own || plan.network != network {
        return Ok(plan);
    }
    let layers = norms.into_iter().map(|(norm, layer)| (layer, norm)).collect();
    Ok(QuantPlan { network: own, activations: renamed(plan.activations, &layers), ..plan })
}

/// The batch normalisations behind layers whose weights a plan puts on a grid: what can be folded while the network trains.
///
/// # Errors
/// As [`QuantPlan::new`].
pub(super) fn folded_on_grids(plan: &QuantPlan, graph: &Graph) -> Result<BTreeSet<String>, QuantError> {
    let everywhere = PlanSettings { fold_batch_norm: true, ends: Ends::Same, ..PlanSettings::int8()? };
    let mut names = BTreeSet::new();
    for norm in QuantPlan::new(graph, &everywhere)?.folded {
        let layer = input(graph, &norm, 0)?;
        let weight = layer.map(|layer| input(graph, &layer, 1)).transpose()?.flatten();
        let quantizer = weight.and_then(|weight| plan.weights.get(&weight));
        if matches!(quantizer, Some(Quantizer::Uniform(_) | Quantizer::Lsq(_))) {
            names.insert(norm);
        }
    }
    Ok(names)
}

/// A network without the batch normalisations that can be folded.
struct Deployed {
    /// Its learned parameters.
    network: BTreeMap<String, Vec<usize>>,
    /// The normalisations that are gone, each with the layer in front.
    norms: BTreeMap<String, String>,
}

impl Deployed {
    fn of(graph: &Graph) -> Result<Self, GraphError> {
        let mut deployed = graph.clone();
        let mut norms = BTreeMap::new();
        for norm in deployed.fold_batch_norm()?.removed {
            norms.extend(input(graph, &norm, 0)?.map(|layer| (norm, layer)));
        }
        deployed.remove_dead()?;
        Ok(Self { network: parameters(&deployed), norms })
    }
}

/// The name of what a node reads.
fn input(graph: &Graph, node: &str, index: usize) -> Result<Option<String>, GraphError> {
    let id = graph.node(graph.find(node)?)?.inputs().get(index);
    id.map(|&id| Ok(graph.node(id)?.name().to_owned())).transpose()
}

/// Learned parameters and their shapes, as [`QuantPlan::network`] has them.
fn parameters(graph: &Graph) -> BTreeMap<String, Vec<usize>> {
    let learned =
        graph.parameters().filter(|(_, node)| matches!(node.op(), Op::Parameter { role: Role::Weight, .. }));
    learned.map(|(_, node)| (node.name().to_owned(), node.output().shape.at(1))).collect()
}

/// Activations under other names. A group is called after one of them.
fn renamed(points: BTreeMap<String, Point>, names: &BTreeMap<String, String>) -> BTreeMap<String, Point> {
    let new = |name: String| names.get(&name).cloned().unwrap_or(name);
    let point = |(name, point): (String, Point)| (new(name), Point { group: point.group.map(new), ..point });
    points.into_iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, Tensor};
    use kd_core::{Network, Taps};
    use kd_models::{InputShape, ModelSpec};

    /// A model of the zoo, and the same deployed.
    fn traced(model: &str) -> [Graph; 2] {
        let device = Device::flex();
        let model = model.parse::<ModelSpec>().unwrap().init(InputShape::MNIST, 10, &device).unwrap();
        let sample = Tensor::<4>::zeros([1, 1, 28, 28], &device);
        let graph = kd_graph::trace(&model, sample, |model, x| model.forward(x, &mut Taps::none())).unwrap();
        let mut deployed = graph.clone();
        deployed.fold_batch_norm().unwrap();
        deployed.remove_dead().unwrap();
        [graph, deployed]
    }

    #[test]
    fn a_plan_goes_from_the_network_that_trains_to_the_one_that_is_deployed_and_back() {
        for model in ["resnet8", "mlp-bn:12,8", "lenet5:4,8,20"] {
            let [graph, deployed] = traced(model);
            for settings in
                [PlanSettings::int8().unwrap(), PlanSettings::lsq(4).unwrap(), PlanSettings::xnor()]
            {
                let plan = QuantPlan::new(&graph, &settings).unwrap();
                let there = for_deployment(plan.clone(), &graph).unwrap();
                there.check(&deployed).unwrap();
                let quantizers = |plan: &QuantPlan| {
                    (
                        plan.weights.clone(),
                        plan.activations.values().map(|point| point.quantizer.bits()).sum::<u32>(),
                    )
                };
                assert_eq!(quantizers(&there), quantizers(&plan), "{model}");
                assert_eq!(for_training(there.clone(), &graph).unwrap(), plan, "{model}");
                // What is right already stays.
                assert_eq!(for_deployment(there.clone(), &graph).unwrap(), there, "{model}");
                assert_eq!(for_training(plan.clone(), &graph).unwrap(), plan, "{model}");
            }
        }
    }

    #[test]
    fn what_shares_a_scale_with_a_shortcut_still_does() {
        let [graph, deployed] = traced("resnet8");
        let plan = QuantPlan::new(&graph, &PlanSettings::int8().unwrap()).unwrap();
        let there = for_deployment(plan.clone(), &graph).unwrap();
        assert!(
            plan.activations.contains_key("layer1.0.bn2") && there.activations.contains_key("layer1.0.conv2")
        );
        let groups = |plan: &QuantPlan| {
            let mut sizes = BTreeMap::<String, usize>::new();
            plan.activations
                .values()
                .flat_map(|p| p.group.clone())
                .for_each(|name| *sizes.entry(name).or_default() += 1);
            sizes.into_values().collect::<Vec<_>>()
        };
        assert_eq!(groups(&there).into_iter().sum::<usize>(), groups(&plan).into_iter().sum::<usize>());
        // As one that was made for the deployed network.
        let own = QuantPlan::new(&deployed, &PlanSettings::int8().unwrap()).unwrap();
        assert_eq!(own.activations.keys().collect::<Vec<_>>(), there.activations.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_plan_of_another_network_stays_and_is_refused_by_its_check() {
        let [graph, _] = traced("mlp-bn:12,8");
        let [other, deployed] = traced("mlp-bn:12,9");
        let plan = |graph| QuantPlan::new(graph, &PlanSettings::int8().unwrap()).unwrap();
        for plan in [plan(&other), plan(&deployed)] {
            let error = for_training(plan, &graph).unwrap().check(&graph).unwrap_err().to_string();
            assert!(error.contains("it is for another network"), "{error}");
        }
    }

    #[test]
    fn a_quantiser_that_would_be_folded_away_is_refused() {
        let [graph, _] = traced("mlp-bn:12,8");
        let mut plan = QuantPlan::new(&graph, &PlanSettings::int8().unwrap()).unwrap();
        let point = plan.activations.values().next().unwrap().clone();
        let (norm, layer) = Deployed::of(&graph).unwrap().norms.pop_first().unwrap();
        plan.activations.insert(layer.clone(), point);
        let error = for_deployment(plan, &graph).unwrap_err().to_string();
        assert!(error.contains(&format!("`{layer}` is quantised in front of `{norm}`")), "{error}");
    }

    #[test]
    fn only_normalisations_behind_grids_are_folded_while_training() {
        let [graph, _] = traced("resnet8");
        let mut plan = QuantPlan::new(&graph, &PlanSettings::int8().unwrap()).unwrap();
        let every = folded_on_grids(&plan, &graph).unwrap();
        assert_eq!(every.len(), 7);
        plan.weights.remove("layer1.0.conv1.weight").unwrap();
        let xnor =
            QuantPlan::new(&graph, &PlanSettings::xnor()).unwrap().weights["layer1.0.conv2.weight"].clone();
        plan.weights.insert("layer1.0.conv2.weight".to_owned(), xnor);
        let left = folded_on_grids(&plan, &graph).unwrap();
        assert_eq!(every.difference(&left).collect::<Vec<_>>(), ["layer1.0.bn1", "layer1.0.bn2"]);
    }
}
