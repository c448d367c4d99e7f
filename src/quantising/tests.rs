//! Whole studies, at their smallest.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use kd_data::Search;
use kd_graph::{Engine, Graph, Op};
use kd_quant::integer::IntegerNetwork;
use kd_quant::plan::{PlanSettings, Preset, QuantPlan, Quantizer, sites};
use kd_train::{RunSettings, Start};
use tempfile::tempdir;

use super::*;
use crate::experiment::{Data, Display, Study, StudySettings, measure};
use crate::recipe::DataSettings;

/// Four steps an epoch.
fn study(folder: &Path) -> Study {
    let data = DataSettings::new("digits").smallest_if(true);
    let settings = StudySettings {
        folder: folder.to_owned(),
        device: burn::tensor::Device::flex(),
        engine: Engine::Kernels,
        recompute: false,
        seeds: 1,
        start: Start::New,
        stop: Arc::default(),
        display: Display::Silent,
    };
    Study::new("small", Data::open(&data, &Search::default()).unwrap(), settings).unwrap()
}

fn run(model: &str, folder: &Path, settings: &QuantizeSettings) -> (Study, Quantised) {
    let mut study = study(folder);
    let network = crate::pruning::zoo_graph(&model.parse().unwrap());
    let settings = QuantizeSettings { control: false, ..settings.clone() };
    let epochs = RunSettings { epochs: 2, ..RunSettings::default() };
    let quantised = quantize(&mut study, network, &epochs, &settings).unwrap().pop().unwrap();
    (study, quantised)
}

fn norms(graph: &Graph) -> usize {
    graph.nodes().filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_))).count()
}

/// The traced model.
fn float(model: &str) -> Graph {
    let folder = tempdir().unwrap();
    crate::pruning::zoo_graph(&model.parse().unwrap())(&study(folder.path()).task())
        .unwrap()
        .to_graph()
        .unwrap()
}

const NORMALISED: &str = "mlp-bn:16,12";

#[test]
fn folded_normalisations_are_gone_from_what_is_saved_and_measured() {
    let folder = tempdir().unwrap();
    let settings = QuantizeSettings {
        fold_batch_norm: true,
        freeze_ranges: Some(1),
        freeze_statistics: Some(1),
        distil: true,
        ..QuantizeSettings::new(Preset::Int8)
    };
    let (study, quantised) = run(NORMALISED, folder.path(), &settings);
    assert_eq!((quantised.plan.folded.len(), norms(&quantised.graph)), (2, 0));
    let saved = Graph::load(&quantised.file).unwrap();
    assert_eq!((norms(&saved), sites(&saved).unwrap().len()), (0, sites(&quantised.graph).unwrap().len()));

    let network = IntegerNetwork::<Tensor<4>>::new(&saved, study.device()).unwrap();
    let again = measure(&network, &study.data().test().unwrap(), None, study.device()).unwrap();
    let row = study.results().candidate("quantised, on codes").unwrap();
    assert_eq!(again.accuracy, row.seeds[0].best.accuracy);
    // Eight bits are nearly what was trained.
    let trained = study.results().candidate("quantised").unwrap();
    assert!((trained.accuracy() - row.accuracy()).abs() < 0.02, "{} {}", trained.accuracy(), row.accuracy());

    // Without the key the normalisations stay nodes, merged into requantisations.
    let folder = tempdir().unwrap();
    let (_, unfolded) = run(NORMALISED, folder.path(), &QuantizeSettings::new(Preset::Int8));
    assert_eq!((unfolded.plan.folded.len(), norms(&unfolded.graph)), (0, 2));
}

#[test]
fn sizes_follow_the_bits_and_both_forms_are_compared() {
    let [mut bytes, mut codes] = [Vec::new(), Vec::new()];
    for method in [Preset::Int8, Preset::Lsq { bits: 2 }, Preset::BinaryConnect] {
        let folder = tempdir().unwrap();
        let (study, quantised) = run("mlp:64,32", folder.path(), &QuantizeSettings::new(method));
        let row = study.results().candidate("quantised, on codes").unwrap();
        assert_eq!(row.bytes, quantised.on_codes.bytes);
        let agreement = quantised.on_codes.agreement.clone().unwrap();
        // The rest of the last batch, too.
        assert!((1000..1064).contains(&agreement.rows.0), "{:?}", agreement.rows);
        codes.push(agreement.steps().codes);
        let note = study.results().notes.iter().find(|note| note.starts_with("Seed 0, on codes")).unwrap();
        assert!(note.contains("get another class") && note.contains(&row.bytes.to_string()), "{note}");
        bytes.push(row.bytes);
    }
    let elements = 784 * 64 + 64 * 32 + 32 * 10;
    let small = |bits: u64| (elements * bits / 8)..(elements * bits / 8 + 4000);
    // The first and the last layer have 8 bits in the second.
    assert!(small(8).contains(&bytes[0]) && bytes[1] < bytes[0] && small(1).contains(&bytes[2]), "{bytes:?}");
    assert!(codes[0] > 0 && codes[1] > 0 && codes[2] == 0, "{codes:?}");
}

#[test]
fn what_stays_in_float_is_said() {
    let folder = tempdir().unwrap();
    let settings =
        QuantizeSettings { exclude: vec!["hidden.0".into()], ..QuantizeSettings::new(Preset::Int8) };
    let (_, quantised) = run("mlp:16,12", folder.path(), &settings);
    assert!(quantised.on_codes.to_string().contains("\nin float: hidden.0: "), "{}", quantised.on_codes);
}

#[test]
fn a_plan_that_was_written_is_followed_edited_or_not() {
    let folder = tempdir().unwrap();
    let method = Preset::Lsq { bits: 4 };
    let (_, first) = run(NORMALISED, &folder.path().join("first"), &QuantizeSettings::new(method));
    let file = folder.path().join("first/plan-seed-0.json");
    // It is that of the deployed network, as `--post` and `analyse` need it.
    let mut deployed = float(NORMALISED);
    deployed.fold_batch_norm().unwrap();
    let mut plan = read_plan(&file).unwrap();
    plan.check(&deployed).unwrap();

    let (path, _) = plan.weights.iter().find(|(_, quantizer)| quantizer.bits() == 4).unwrap();
    let path = path.clone();
    plan.weights.insert(path.clone(), Quantizer::lsq_weight(2).unwrap());
    let edited = folder.path().join("edited.json");
    std::fs::write(&edited, serde_json::to_vec(&plan).unwrap()).unwrap();
    for (file, bits, folds) in [(&file, 4, false), (&edited, 2, true)] {
        let settings = QuantizeSettings { fold_batch_norm: folds, ..QuantizeSettings::following(file) };
        let (_, next) = run(NORMALISED, &folder.path().join(format!("bits-{bits}")), &settings);
        assert_eq!(next.plan.weights[&path].bits(), bits);
        assert_eq!(next.plan.folded.len(), if folds { 2 } else { 0 });
        assert_eq!(next.plan.activations, first.plan.activations);
        assert_eq!(next.plan.network, first.plan.network);
    }
}

#[test]
fn what_a_plan_can_not_be_used_for_is_said_before_anything_is_trained() {
    let folder = tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let other = QuantPlan::new(&float("mlp-bn:16,13"), &PlanSettings::int8().unwrap()).unwrap();
    let other = file("other.json", &serde_json::to_string(&other).unwrap());
    let broken = file("broken.json", "{\"network\": {}");
    let folding = QuantizeSettings { fold_batch_norm: true, ..QuantizeSettings::new(Preset::Xnor) };
    let ranges =
        QuantizeSettings { freeze_ranges: Some(1), ..QuantizeSettings::new(Preset::Lsq { bits: 4 }) };
    for (settings, expected) in [
        (QuantizeSettings::following(&other), "it is for another network"),
        (QuantizeSettings::following(&broken), "broken.json is no plan of `kd quantize`"),
        (QuantizeSettings::following(folder.path().join("none.json")), "none.json"),
        (folding, "`fold-batch-norm` is true, but it must be false"),
        (ranges, "`freeze-ranges` is 1, but it must be left out"),
    ] {
        let out = folder.path().join("out");
        let network = crate::pruning::zoo_graph(&NORMALISED.parse().unwrap());
        let error = quantize(&mut study(&out), network, &RunSettings::default(), &settings)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!out.exists());
    }
}
