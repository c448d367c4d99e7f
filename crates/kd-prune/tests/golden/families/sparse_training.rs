//! Densities, updates of connections, schedules, top-k and structured masks.

use std::collections::BTreeMap;

use kd_prune::{
    Allocation, Anneal, Array, DropFraction, DropGrow, ErdosRenyi, LayerScores, LayerShape, Limits, Mask,
    Polynomial, PolynomialConvention, Pooling, Structure, Ties, n_of_m,
};
use serde_json::Value as Json;

use crate::case::{Case, Failure, array, close, field, parse, text};

pub fn run(case: &Case) -> Result<(), Failure> {
    match () {
        () if case.is("rigl", "erk") => densities(case),
        () if case.is("", "rigl_update") => update(case, DropGrow::Truncated),
        () if case.is("", "jaxpruner_rigl_update") => update(case, DropGrow::Rounded),
        () if case.is("", "rigl_drop_fraction") => rows(case, |row| drop_fraction(case, row)),
        () if case.is("", "tfmot_polynomial_decay") => rows(case, |row| {
            let names = ["initial", "final", "begin", "end", "frequency", "step"];
            polynomial(row, names, PolynomialConvention::Paper, Some("should_prune"))
        }),
        () if case.is("", "distiller_agp") => rows(case, |row| {
            let names = ["initial", "final", "starting_epoch", "ending_epoch", "frequency", "epoch"];
            polynomial(row, names, PolynomialConvention::LastUpdate, None)
        }),
        () if case.is("", "jaxpruner_polynomial") => rows(case, |row| {
            let names = ["initial", "target", "start", "end", "freq", "step"];
            polynomial(row, names, PolynomialConvention::NextStep, Some("is_update"))
        }),
        () if case.is("", "jaxpruner_topk") => structured(case, Structure::Element),
        () if case.is("", "jaxpruner_channel") => {
            let axis = axis(case, case.given("scores")?.shape().len())?;
            structured(case, Structure::Slices { axes: vec![axis], pooling: Pooling::Sum })
        }
        () if case.is("", "jaxpruner_block") => {
            let average: bool = parse(&case.params, &["avg"])?;
            let pooling = if average { Pooling::Mean } else { Pooling::Max };
            structured(case, Structure::Blocks { size: parse(&case.params, &["block"])?, pooling })
        }
        () if case.is("", "jaxpruner_") && case.params.get("m").is_some() => {
            let scores = case.given("scores")?;
            let (n, m) = (parse(&case.params, &["n"])?, parse(&case.params, &["m"])?);
            let axis = axis(case, scores.shape().len())?;
            case.same_mask("mask", &n_of_m(&scores, n, m, axis, Ties::HigherIndex).map_err(text)?)
        }
        () if case.is("snip", "snip_create_sparse_mask") => snip(case),
        () => case.unknown(),
    }
}

fn axis(case: &Case, rank: usize) -> Result<usize, Failure> {
    let axis: i64 = parse(&case.params, &["axis"])?;
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).map_err(text)
}

fn rows(case: &Case, check: impl Fn(&Json) -> Result<(), Failure>) -> Result<(), Failure> {
    let rows = field(&case.expected, &["rows"])?.as_array().ok_or("rows are wanted")?;
    if rows.is_empty() {
        return Err("there are no rows".to_owned());
    }
    rows.iter().try_for_each(|row| check(row).map_err(|why| format!("{row}: {why}")))
}

fn near(what: &str, ours: f64, theirs: f64, tolerance: f64) -> Result<(), Failure> {
    if (ours - theirs).abs() <= tolerance {
        Ok(())
    } else {
        Err(format!("{what} is {ours}, recorded is {theirs}"))
    }
}

/// Shapes are `[.., in, out]`.
fn densities(case: &Case) -> Result<(), Failure> {
    let shapes: BTreeMap<String, Vec<usize>> = parse(&case.params, &["shapes"])?;
    let layers: BTreeMap<String, LayerShape> = shapes
        .into_iter()
        .map(|(path, sizes)| {
            let [.., inputs, outputs] = sizes[..] else { return Err(format!("`{path}` has no channels")) };
            Ok((path, LayerShape { sizes, inputs, outputs }))
        })
        .collect::<Result<_, Failure>>()?;
    rows(case, |row| {
        let sparsity: f64 = parse(row, &["sparsity"])?;
        let given: BTreeMap<String, f64> = parse(row, &["custom_sparsity_map"])?;
        let power = parse(row, &["erk_power_scale"])?;
        let ours = match parse::<String>(row, &["method"])?.as_str() {
            "erdos_renyi_kernel" => ErdosRenyi { kernel: true, power }.sparsities(&layers, sparsity, &given),
            "erdos_renyi" => ErdosRenyi { kernel: false, power }.sparsities(&layers, sparsity, &given),
            "random" => Ok(layers
                .keys()
                .map(|path| (path.clone(), given.get(path).copied().unwrap_or(sparsity)))
                .collect()),
            other => return Err(format!("the method `{other}` is not known")),
        };
        let ours = ours.map_err(text)?;
        for (path, ours) in &ours {
            near(path, *ours, parse(row, &["layer_sparsity", path])?, 1e-6)?;
            if row.get("jaxpruner_layer_sparsity").is_some() {
                near(path, *ours, parse(row, &["jaxpruner_layer_sparsity", path])?, 1e-6)?;
            }
            let elements: usize = layers[path].sizes.iter().product();
            // Of a sparsity in single precision, as the reference holds it.
            let zeros = (ours * elements as f64 + 1e-6 * elements as f64 * f64::EPSILON).floor() as usize;
            let recorded: usize = parse(row, &["n_zeros", path])?;
            if zeros != recorded {
                return Err(format!("`{path}` has {zeros} zeros, recorded are {recorded}"));
            }
        }
        Ok(())
    })
}

fn update(case: &Case, rule: DropGrow) -> Result<(), Failure> {
    let (weight, mask) = (case.given("w")?, Mask::of_nonzeros(&case.given("mask")?));
    let next = rule.update(&weight, &mask, &case.given("grow_score")?, case.param("drop_fraction")?);
    let next = next.map_err(text)?;
    case.same_mask("mask_after", &next)?;
    if case.expected.get("w_after").is_some() {
        // What was not connected before starts from zero; a mask takes away what is not connected now.
        let before = mask.to_array();
        let grown = weight.zip(&before, |w, m| if m == 0.0 { 0.0 } else { w }).map_err(text)?;
        let kept = next.apply(&grown).map_err(text)?;
        let recorded = next.apply(&case.expected("w_after")?).map_err(text)?;
        close("w_after", &kept, &recorded, 1e-6, false)?;
    }
    Ok(())
}

fn drop_fraction(case: &Case, row: &Json) -> Result<(), Failure> {
    let kind: String = parse(row, &["anneal"])?;
    let anneal = match kind.split_once('_') {
        None if kind == "constant" => Anneal::Constant,
        None if kind == "cosine" => Anneal::Cosine,
        Some(("exponential", power)) => Anneal::Power { power: power.parse().map_err(text)? },
        _ => return Err(format!("`{kind}` is not known")),
    };
    let share =
        DropFraction { initial: case.param("initial")?, end: parse(&case.params, &["end_step"])?, anneal };
    near("drop_fraction", share.at(parse(row, &["step"])?), parse(row, &["drop_fraction"])?, 1e-6)
}

fn polynomial(
    row: &Json,
    names: [&str; 6],
    convention: PolynomialConvention,
    due: Option<&str>,
) -> Result<(), Failure> {
    let [initial, target, begin, end, every, step] = names;
    let polynomial = Polynomial {
        initial: if row.get(initial).is_some() { parse(row, &[initial])? } else { 0.0 },
        target: parse(row, &[target])?,
        begin: parse(row, &[begin])?,
        end: parse(row, &[end])?,
        every: parse(row, &[every])?,
        power: if row.get("power").is_some() { parse(row, &["power"])? } else { 3.0 },
        convention,
    };
    let step = parse(row, &[step])?;
    near("sparsity", polynomial.sparsity(step), parse(row, &["sparsity"])?, 1e-6)?;
    match due {
        Some(due) if polynomial.is_due(step) != parse::<bool>(row, &[due])? => Err(format!("{due} differs")),
        _ => Ok(()),
    }
}

fn structured(case: &Case, structure: Structure) -> Result<(), Failure> {
    let scores = case.given("scores")?;
    let units = structure.units(scores.shape()).map_err(text)?;
    let layer = LayerScores {
        scores: units.pool(&scores),
        shape: LayerShape { sizes: scores.shape().to_vec(), inputs: 1, outputs: 1 },
    };
    let layers = BTreeMap::from([("scores".to_owned(), layer)]);
    let keep = Allocation::Uniform.keep(&layers, case.param("sparsity")?, &Limits::default());
    case.same_mask("mask", &units.mask(&keep.map_err(text)?["scores"]).map_err(text)?)
}

fn snip(case: &Case) -> Result<(), Failure> {
    let inputs = case.inputs.as_object().ok_or("a table of scores is wanted")?;
    let mut layers = BTreeMap::new();
    for (name, scores) in inputs {
        let scores: Array = array(scores)?;
        let shape = LayerShape { sizes: scores.shape().to_vec(), inputs: 1, outputs: 1 };
        layers
            .insert(name.clone(), (scores.clone(), LayerScores { scores: scores.values().to_vec(), shape }));
    }
    let limits = Limits { least: 0, ..Limits::default() };
    let of = layers.iter().map(|(name, (_, layer))| (name.clone(), layer.clone())).collect();
    let keep = Allocation::Global.keep(&of, case.param("sparsity")?, &limits).map_err(text)?;
    for (name, (scores, _)) in &layers {
        let mask = Mask::new(scores.shape(), keep[name].clone()).map_err(text)?;
        crate::case::same_mask(name, &mask, &array(field(&case.expected, &["masks", name])?)?)?;
    }
    Ok(())
}
