use burn::tensor::Tensor;
use kd_core::losses::{Elements, Ofd, OfdSettings};

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if case.is("OFD.py", "mdistiller_ofd_margin") {
        let numbers =
            |name| Ok::<_, Failure>(case.constant::<1>(name)?.into_data().iter::<f64>().collect::<Vec<_>>());
        let margins = Ofd::margins(&numbers("bn_weight")?, &numbers("bn_bias")?);
        let margins: Vec<f32> = margins.into_iter().map(|m| m as f32).collect();
        return case.check_output("margin", &Tensor::<1>::from_floats(margins.as_slice(), &case.device()));
    }
    if case.is("OFD.py", "mdistiller_ofd_feat_loss") {
        let (student, teacher) = (case.leaf("student")?, case.constant("teacher")?);
        return case
            .check(loss(Elements::Sum)?.per_example(student, teacher, margin(case, "margin")?).mean());
    }
    if case.is("OFD.py", "mdistiller_ofd_full") {
        let epsilon = case.number("bn_eps")?;
        let layers = (0..).take_while(|i| case.has(&format!("student{i}"))).count();
        let mut sum = Tensor::zeros([1], &case.device());
        for (i, weight) in Ofd::weights(layers).into_iter().enumerate() {
            let student = connect(case, &i.to_string(), epsilon)?;
            let [_, _, height, width] = student.dims();
            let teacher = Ofd::pool(case.constant(&format!("teacher{i}"))?, [height, width]);
            let margin = margin(case, &format!("margin{i}"))?;
            sum = sum + loss(Elements::Sum)?.per_example(student, teacher, margin).mean() * weight;
        }
        return case.check(sum);
    }
    if case.is("ofd.py", "zoo_ofd") {
        let epsilon = case.optional_number("bn_eps")?;
        let student = connect(case, "", epsilon.unwrap_or(TORCH_BN_EPSILON))?;
        let teacher = case.constant::<4>("teacher")?;
        let margin = Ofd::margins_of_batch(teacher.clone());
        return case.check(loss(Elements::Mean)?.per_example(student, teacher, margin).mean());
    }
    case.unknown()
}

/// What torch's batch normalisation uses where a case doesn't say.
const TORCH_BN_EPSILON: f64 = 1e-5;

fn loss(elements: Elements) -> Result<Ofd, Failure> {
    let settings = OfdSettings {
        student: vec!["student".into()],
        teacher: vec!["teacher".into()],
        elements,
        ..Default::default()
    };
    settings.build().map_err(|e| e.to_string())
}

fn margin(case: &Case, name: &str) -> Result<Tensor<1>, Failure> {
    Ok(case.constant::<4>(name)?.flatten(0, 3))
}

/// The student's map of layer `i` through its convolution and batch normalisation.
fn connect(case: &Case, i: &str, epsilon: f64) -> Result<Tensor<4>, Failure> {
    let weight = case.leaf::<4>(&format!("conv{i}"))?;
    let [to, from, ..] = weight.dims();
    let (gamma, beta) = (case.leaf(&format!("bn_weight{i}"))?, case.leaf(&format!("bn_bias{i}"))?);
    Ok(Ofd::connect(case.leaf(&format!("student{i}"))?, weight.reshape([to, from]), gamma, beta, epsilon))
}
