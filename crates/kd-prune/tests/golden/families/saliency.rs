//! Scores at initialisation, and the masks that follow from them.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use kd_graph::{Graph, Value};
use kd_prune::{
    Allocation, Arrays, Grasp, Limits, Magnitude, Masks, PruneError, Pruner, Rounding, Rounds, Score, Snip,
    Subject, SynFlow, Ties, iterate,
};

use crate::case::{Case, Failure, array, arrays, close, field, parse, same_mask, text};
use crate::net::{described, transposed};

pub fn run(case: &Case) -> Result<(), Failure> {
    let state = arrays(field(&case.inputs, &["state"])?)?;
    let arch: String = parse(&case.params, &["arch"])?;
    let input = match case.inputs.get("x") {
        Some(x) => array(x)?.shape().to_vec(),
        None => vec![1, state.get("0.weight").map_or(1, |weight| weight.shape()[1])],
    };
    let graph = described(&arch, &input, &state)?;
    let device = Device::flex();
    let density = case.param("density")?;
    match case.name.split('_').next().unwrap_or_default() {
        "synflow" if case.name.starts_with("synflow_iterative") => {
            let rounds = parse(&case.params, &["epochs"])?;
            let rounds = match parse::<String>(&case.params, &["schedule"])?.as_str() {
                "exponential" => Rounds::Exponential(rounds),
                "linear" => Rounds::Linear(rounds),
                other => return Err(format!("the schedule `{other}` is not known")),
            };
            let subject = Subject::new(&graph, &device);
            let masks = iterate(&pruner(SynFlow, Allocation::Global), &subject, 1.0 - density, rounds);
            same("mask", case, &masks.map_err(text)?)
        }
        "snip" => check(case, Snip, &graph, density, 1e-4),
        "grasp" => check(case, Grasp::default(), &graph, density, 1e-3),
        "synflow" => check(case, SynFlow, &graph, density, 1e-4),
        "mag" => check(case, Magnitude::L1, &graph, density, 1e-4),
        _ => case.unknown(),
    }
}

fn pruner<S: Score>(score: S, allocation: Allocation) -> Pruner<S> {
    let limits = Limits { rounding: Rounding::FloorPruned, ties: Ties::Strict, least: 0, multiple: 1 };
    Pruner::new(score).allocation(allocation).limits(limits)
}

fn check<S: Score + Clone>(
    case: &Case,
    score: S,
    graph: &Graph,
    density: f64,
    tolerance: f64,
) -> Result<(), Failure> {
    let device = Device::flex();
    let tape = device.clone().autodiff();
    let labels = case.labels("y", &tape)?;
    let inputs: Vec<Value> = match case.given("x")?.shape().len() {
        2 => vec![case.tensor::<2>("x", &device)?.into()],
        _ => vec![case.tensor::<4>("x", &device)?.into()],
    };
    let subject = Subject::new(graph, &device).with_loss(inputs, |outputs| {
        let first = outputs.first().ok_or_else(|| PruneError::Loss("no output".to_owned()))?;
        let logits: Tensor<2> = first.float()?;
        let likelihood = log_softmax(logits, 1).gather(1, labels.clone().unsqueeze_dim(1));
        Ok(likelihood.mean().neg())
    });
    let scores = score.score(&subject, &Masks::new()).map_err(text)?;
    same_scores(case, &scores, tolerance)?;
    for (what, allocation) in [("mask_global", Allocation::Global), ("mask_local", Allocation::Uniform)] {
        let masks = pruner(score.clone(), allocation).masks(&subject, &Masks::new(), 1.0 - density);
        same(what, case, &masks.map_err(text)?)?;
    }
    Ok(())
}

/// Relative to the largest score of the network.
fn same_scores(case: &Case, scores: &Arrays, tolerance: f64) -> Result<(), Failure> {
    let recorded = arrays(field(&case.expected, &["scores"])?)?;
    if scores.keys().ne(recorded.keys()) {
        return Err(format!("scored are {:?}, recorded {:?}", scores.keys(), recorded.keys()));
    }
    let all = recorded.values().flat_map(|array| array.values());
    let largest = all.fold(0.0f32, |largest, score| largest.max(score.abs())).max(f32::MIN_POSITIVE);
    for (path, recorded) in &recorded {
        let scale = |score: f32| score / largest;
        close(path, &transposed(&scores[path])?.map(scale), &recorded.map(scale), tolerance, false)?;
    }
    Ok(())
}

fn same(what: &str, case: &Case, masks: &Masks) -> Result<(), Failure> {
    for (path, recorded) in arrays(field(&case.expected, &[what])?)? {
        let mask = masks.get(&path).ok_or_else(|| format!("there is no mask of `{path}`"))?;
        same_mask(&format!("{what} of {path}"), mask, &transposed(&recorded)?)?;
    }
    Ok(())
}
