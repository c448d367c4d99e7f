//! Network slimming: threshold, kept channels, and the network that is left.

use std::collections::BTreeMap;

use kd_graph::{Graph, PoolKind};
use kd_prune::{Arrays, batch_norm_scales, l1_subgradient, slim, slimming_channels, slimming_threshold};
use serde_json::Value as Json;

use crate::case::{Case, Failure, arrays, close, field, number, parse, text};
use crate::net::{Builder, logits};

pub fn run(case: &Case) -> Result<(), Failure> {
    match () {
        () if case.is("network-slimming", "vgg_global") => vgg(case),
        () if case.is("network-slimming", "updateBN_l1") => {
            let grad = l1_subgradient(&case.given("gamma")?, &case.given("grad")?, case.param("s")?);
            case.close("grad_after", &grad.map_err(text)?, 1e-6, false)
        }
        () => case.unknown(),
    }
}

fn vgg(case: &Case) -> Result<(), Failure> {
    let state = arrays(field(&case.inputs, &["state"])?)?;
    let x = case.given("x")?;
    let graph = network(field(&case.params, &["cfg"])?, x.shape(), &state)?;
    let share = case.param("percent")?;
    close("logits_original", &logits::<4>(&graph, &x)?, &case.expected("logits_original")?, 1e-4, false)?;

    let scales = batch_norm_scales(&graph).map_err(text)?;
    let threshold = slimming_threshold(&scales, share).map_err(text)?;
    let recorded = number(field(&case.expected, &["threshold"])?)?;
    if f64::from(threshold) != recorded && (f64::from(threshold) - recorded).abs() > 1e-7 {
        return Err(format!("the threshold is {threshold}, recorded is {recorded}"));
    }
    let kept = slimming_channels(&scales, threshold);
    let recorded: BTreeMap<String, Vec<usize>> = parse(&case.expected, &["kept"])?;
    for (layer, recorded) in &recorded {
        let ours = kept.get(&format!("{layer}.weight")).map_or(&[][..], Vec::as_slice);
        if ours != recorded {
            return Err(format!("of `{layer}` {ours:?} are kept, recorded are {recorded:?}"));
        }
    }
    if kept.len() != recorded.len() {
        return Err(format!("{} layers are slimmed, recorded are {}", kept.len(), recorded.len()));
    }

    let (plan, _) = slim(&graph, share).map_err(text)?;
    let masked = plan.mask(&graph).map_err(text)?;
    close("logits_masked", &logits::<4>(&masked, &x)?, &case.expected("logits_masked")?, 1e-4, false)?;
    let smaller = plan.apply(&graph).map_err(text)?;
    close("logits_pruned", &logits::<4>(&smaller, &x)?, &case.expected("logits_pruned")?, 1e-4, false)?;
    let parameters = smaller.cost(1).map_err(text)?.parameters;
    let recorded: u64 = parse(&case.expected, &["params_after"])?;
    if parameters != recorded {
        return Err(format!("{parameters} parameters are left, recorded are {recorded}"));
    }
    let widths: Vec<usize> = parse::<Vec<Json>>(&case.expected, &["new_cfg"])?
        .iter()
        .filter_map(|width| Some(width.as_u64()? as usize))
        .collect();
    let ours: Vec<usize> = smaller
        .parameters()
        .filter(|(_, node)| node.output().shape.rank() == 4)
        .map(|(_, node)| node.output().shape.at(1)[0])
        .collect();
    if ours == widths { Ok(()) } else { Err(format!("the widths are {ours:?}, recorded are {widths:?}")) }
}

/// Convolution without bias, normalisation, ReLU for every number, a pooling for every `M`; then average pooling and a classifier.
fn network(cfg: &Json, input: &[usize], state: &Arrays) -> Result<Graph, Failure> {
    let mut builder = Builder::new(input, state)?;
    let mut index = 0;
    for entry in cfg.as_array().ok_or("cfg is a list")? {
        if entry.as_str() == Some("M") {
            builder.pool(PoolKind::Max, 2)?;
            index += 1;
        } else {
            builder.conv(&format!("feature.{index}"), 1)?;
            builder.batch_norm(&format!("feature.{}", index + 1))?;
            builder.relu()?;
            index += 3;
        }
    }
    builder.pool(PoolKind::Average { count_padding: true }, 2)?;
    builder.flatten()?;
    builder.linear("classifier")?;
    builder.done()
}
