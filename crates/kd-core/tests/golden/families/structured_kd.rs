use burn::tensor::Tensor;
use kd_core::losses::{
    Adversarial, Divergence, PairWise, PairWiseSettings, PixelWiseSettings, RegionPool, VectorNorm,
};

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if case.is("criterion.py", "pixelwise") {
        let settings = PixelWiseSettings { divergence: Divergence::CrossEntropy, ..Default::default() };
        let loss = settings.build().map_err(|e| e.to_string())?;
        let (student, teacher) = maps(case)?;
        return case.check(loss.per_example(student, teacher).sum());
    }
    if case.is("criterion.py", "pairwise") {
        let (student, teacher) = maps(case)?;
        return case.check(pair_wise(case.number("scale")?)?.per_example(student, teacher).mean());
    }
    if case.is("utils.py", "similarity") {
        let (student, teacher) = maps(case)?;
        return case.check(pair_wise(1.0)?.compare(student, teacher).mean());
    }
    if case.is("criterion.py", "holistic_adv_d") {
        let loss = match case.text("adv_type")? {
            "wgan-gp" => Adversarial::WganGp,
            "hinge" => Adversarial::Hinge,
            other => return Err(format!("adv_type `{other}` is not known")),
        };
        let teacher = loss.critic_teacher(scores(case, "score_teacher")?).mean();
        return case.check(teacher + loss.critic_student(scores(case, "score_student")?).mean());
    }
    if case.is("criterion.py", "holistic_adv_g") {
        return case.check(Adversarial::default().student(scores(case, "score_student")?).mean());
    }
    case.unknown()
}

fn maps(case: &Case) -> Result<(Tensor<4>, Tensor<4>), Failure> {
    Ok((case.leaf("student")?, case.constant("teacher")?))
}

fn pair_wise(scale: f64) -> Result<PairWise, Failure> {
    let taps = vec!["map".to_owned()];
    let (pool, norm) = (RegionPool::Max, VectorNorm::Detached);
    let settings = PairWiseSettings { student: taps.clone(), teacher: taps, scale, pool, norm };
    settings.build().map_err(|e| e.to_string())
}

fn scores(case: &Case, name: &str) -> Result<Tensor<1>, Failure> {
    case.leaf_value(name)?.flat_float().map_err(|e| e.to_string())
}
