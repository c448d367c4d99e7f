//! Hard-concrete gates.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use kd_prune::{Array, HardConcrete, l0_penalty};

use crate::case::{Case, Failure, text};

pub fn run(case: &Case) -> Result<(), Failure> {
    match () {
        () if case.is("flop", "flop_hardconcrete") => flop(case),
        () if case.is("L0_regularization", "amlab_l0dense") => dense(case),
        () if case.is("L0_regularization", "amlab_l0conv2d") => conv(case),
        () => case.unknown(),
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Array, Failure> {
    Array::from_data(&tensor.into_data()).map_err(text)
}

/// Compares a number.
fn scalar(case: &Case, what: &str, tensor: Tensor<1>) -> Result<(), Failure> {
    let value = host(tensor)?;
    let recorded = case.expected(what)?;
    let value = Array::new(recorded.shape(), value.values().to_vec()).map_err(text)?;
    crate::case::close(what, &value, &recorded, 1e-5, false)
}

fn grad<const D: usize>(
    case: &Case,
    what: &str,
    leaf: &Tensor<D>,
    grads: &burn::tensor::Gradients,
) -> Result<(), Failure> {
    let grad = leaf.grad(grads).ok_or_else(|| format!("{what}: there is no gradient"))?;
    case.close(what, &host(grad)?, 1e-4, false)
}

fn flop(case: &Case) -> Result<(), Failure> {
    let device = Device::flex().autodiff();
    let stretch = case.param("stretch")?;
    let gates =
        HardConcrete { temperature: case.param("temperature")?, lower: -stretch, upper: 1.0 + stretch };
    let gates = gates.validate().map_err(text)?;
    let log_alpha = case.tensor::<1>("log_alpha", &device)?.require_grad();
    let z = gates.gates(log_alpha.clone(), case.tensor::<1>("u", &device)?);
    case.close("z", &host(z.clone())?, 1e-5, false)?;
    let grads = (z * case.tensor::<1>("upstream_grad", &device)?).sum().backward();
    grad(case, "grad_log_alpha_of_z", &log_alpha, &grads)?;

    let norm = gates.open(log_alpha.clone()).sum();
    scalar(case, "l0_norm", norm.clone())?;
    grad(case, "grad_log_alpha_of_l0", &log_alpha, &norm.backward())?;

    let log_alpha = case.given("log_alpha")?;
    let mask = Array::new(log_alpha.shape(), gates.deterministic(log_alpha.values(), 0.8)).map_err(text)?;
    case.close("eval_mask", &mask, 1e-5, false)
}

fn gates(case: &Case) -> Result<HardConcrete, Failure> {
    HardConcrete { temperature: case.param("temperature")?, ..HardConcrete::default() }
        .validate()
        .map_err(text)
}

/// The bias's share of the penalty, weight decay alone.
fn decay<const D: usize>(bias: Tensor<D>, weight_decay: f64) -> Tensor<1> {
    bias.square().sum().mul_scalar(0.5 * weight_decay)
}

fn dense(case: &Case) -> Result<(), Failure> {
    let device = Device::flex().autodiff();
    let (gates, weight_decay, lambda) = (gates(case)?, case.param("weight_decay")?, case.param("lamba")?);
    let weight = case.tensor::<2>("weights", &device)?.require_grad();
    let log_alpha = case.tensor::<1>("qz_loga", &device)?.require_grad();
    let bias = case.tensor::<1>("bias", &device)?.require_grad();
    let x = case.tensor::<2>("x", &device)?;
    let apply =
        |z: Tensor<1>| x.clone().matmul(weight.clone() * z.unsqueeze_dim(1)) + bias.clone().unsqueeze();

    let z = gates.gates(log_alpha.clone(), case.tensor::<1>("u", &device)?);
    case.close("z_train", &host(z.clone())?, 1e-5, false)?;
    let y = apply(z);
    case.close("y_train", &host(y.clone())?, 1e-5, false)?;
    let grads = (y * case.tensor::<2>("upstream_grad", &device)?).sum().backward();
    grad(case, "grad_weights", &weight, &grads)?;
    grad(case, "grad_qz_loga", &log_alpha, &grads)?;
    grad(case, "grad_bias", &bias, &grads)?;

    let open = gates.open(log_alpha.clone());
    let closed = open.clone().neg().add_scalar(1.0);
    case.close("cdf_qz_0", &host(closed)?, 1e-5, false)?;
    // The reference returns the negative penalty.
    let penalty =
        l0_penalty(weight.clone(), 0, open, weight_decay, lambda) + decay(bias.clone(), weight_decay);
    let regularisation = penalty.neg();
    scalar(case, "regularization", regularisation.clone())?;
    let grads = regularisation.backward();
    grad(case, "reg_grad_weights", &weight, &grads)?;
    grad(case, "reg_grad_qz_loga", &log_alpha, &grads)?;

    let z = gates.expected(log_alpha.clone());
    case.close("z_eval", &host(z.clone().unsqueeze::<2>())?, 1e-5, false)?;
    case.close("y_eval", &host(apply(z))?, 1e-5, false)
}

fn conv(case: &Case) -> Result<(), Failure> {
    let device = Device::flex().autodiff();
    let (gates, weight_decay, lambda) = (gates(case)?, case.param("weight_decay")?, case.param("lamba")?);
    let weight = case.tensor::<4>("weights", &device)?.require_grad();
    let log_alpha = case.tensor::<1>("qz_loga", &device)?.require_grad();
    let bias = case.tensor::<1>("bias", &device)?;
    let x = case.tensor::<4>("x", &device)?;
    let apply = |bias, z: Tensor<1>| {
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        let y = conv2d(x.clone(), weight.clone(), bias, options);
        let maps = z.dims()[0];
        y * z.reshape([1, maps, 1, 1])
    };

    let z = gates.gates(log_alpha.clone(), case.tensor::<1>("u", &device)?);
    case.close("z_train", &host(z.clone())?, 1e-5, false)?;
    // In training the reference drops the bias.
    case.close("y_train", &host(apply(None, z))?, 1e-5, false)?;

    let open = gates.open(log_alpha.clone());
    let of_bias = open.clone() * bias.clone().square().mul_scalar(0.5 * weight_decay).sub_scalar(lambda);
    let penalty = l0_penalty(weight.clone(), 0, open, weight_decay, lambda) + of_bias.sum();
    let regularisation = penalty.neg();
    scalar(case, "regularization", regularisation.clone())?;
    let grads = regularisation.backward();
    grad(case, "reg_grad_weights", &weight, &grads)?;
    grad(case, "reg_grad_qz_loga", &log_alpha, &grads)?;
    case.close("y_eval", &host(apply(Some(bias), gates.expected(log_alpha)))?, 1e-5, false)
}
