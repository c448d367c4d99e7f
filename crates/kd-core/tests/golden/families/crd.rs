use burn::tensor::{Int, Tensor};
use kd_core::losses::{Crd, CrdSettings};

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("criterion.py", "repdistiller_crd") {
        return case.unknown();
    }
    let settings = CrdSettings {
        student: vec!["student".into()],
        teacher: vec!["teacher".into()],
        temperature: case.number("T")?,
        momentum: case.number("momentum")?,
        ..Default::default()
    };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let embed = |features: &str, side: &str| -> Result<Tensor<2>, Failure> {
        let weight = case.leaf(&format!("{side}.linear.weight"))?;
        Ok(Crd::embed(case.leaf(features)?, weight, case.leaf(&format!("{side}.linear.bias"))?))
    };
    let embeddings = [embed("student", "embed_s")?, embed("teacher", "embed_t")?];
    let memories = [case.constant::<2>("memory_v1")?, case.constant::<2>("memory_v2")?];
    let contrast = case.ints::<2>("contrast_idx")?;
    let (samples, normalizers) = (case.number("n_data")? as usize, case.numbers("Z")?);

    let mut sum = Tensor::zeros([1], &case.device());
    for (side, other) in [(0, 1), (1, 0)] {
        let scores = loss.scores(embeddings[side].clone(), memories[other].clone(), contrast.clone());
        let log_normalizer = match normalizers.get(side) {
            // Not above zero: not known yet.
            Some(z) if *z > 0.0 => Tensor::from_floats([z.ln() as f32], &case.device()),
            Some(_) => Crd::log_normalizer(scores.clone(), samples),
            None => return Err("params.Z needs two numbers".to_owned()),
        };
        let v = side + 1;
        case.check_output(&format!("Z_v{v}"), &log_normalizer.clone().exp())?;
        sum = sum + Crd::per_example(scores, log_normalizer, samples).mean();
        let ids: Tensor<1, Int> = case.ints("idx")?;
        let memory = loss.updated(memories[side].clone(), ids, embeddings[side].clone());
        case.check_output(&format!("memory_v{v}_after"), &memory)?;
    }
    case.check(sum)
}
