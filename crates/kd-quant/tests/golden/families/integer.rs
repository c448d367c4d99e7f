use kd_quant::Grid;
use kd_quant::integer::gemmlowp::{
    FixedMultiplier, choose_parameters, rounding_divide_by_power, saturating_rounding_doubling_high_mul,
    saturating_rounding_doubling_high_mul_i16, saturating_rounding_multiply_by_power,
};
use kd_quant::integer::{
    ConvCodes, LinearCodes, Requantize, Window, conv2d, dequantize, dynamic_unsigned, matmul, quantize,
};

use super::unknown;
use crate::case::{Case, Failure, ok, wide};

fn grid(name: &str) -> Result<Grid, Failure> {
    ok(if name.contains("uint8") { Grid::unsigned(8) } else { Grid::signed(8) })
}

fn parameter(case: &Case) -> Result<LinearCodes, Failure> {
    Ok(LinearCodes { scale: case.number("scale")? as f32, zero_point: case.number("zero_point")? as i32 })
}

fn f32s(case: &Case, name: &str) -> Result<Vec<f32>, Failure> {
    Ok(case.values(name)?.into_iter().map(|v| v as f32).collect())
}

pub fn onnx(case: &Case) -> Result<(), Failure> {
    match case.name.as_str() {
        name if name.starts_with("quantize_linear") => {
            let (codes, grid) = (parameter(case)?, grid(name)?);
            let y: Vec<i32> = f32s(case, "x")?.into_iter().map(|x| quantize(x, codes, grid)).collect();
            case.near("y", &wide(&y), 0.0)
        }
        name if name.starts_with("dequantize_linear") => {
            let codes = parameter(case)?;
            let y: Vec<f32> = case.ints("x")?.into_iter().map(|q| dequantize(q, codes)).collect();
            case.near("y", &wide(&y), 1e-6)
        }
        name if name.starts_with("qdq_per_axis1") => {
            let (scale, zero) = (f32s(case, "scale")?, case.ints("zero_point")?);
            let inner: usize = case.shape("x")?[2..].iter().product();
            let of = |i: usize| {
                let channel = i / inner % scale.len();
                LinearCodes { scale: scale[channel], zero_point: zero[channel] }
            };
            let grid = grid(name)?;
            let q: Vec<i32> =
                f32s(case, "x")?.into_iter().enumerate().map(|(i, x)| quantize(x, of(i), grid)).collect();
            case.near("q", &wide(&q), 0.0)?;
            let dq: Vec<f32> = q.into_iter().enumerate().map(|(i, q)| dequantize(q, of(i))).collect();
            case.near("dq", &wide(&dq), 1e-6)
        }
        name if name.starts_with("dynamic_quantize_linear") => {
            let x = f32s(case, "x")?;
            let codes = ok(dynamic_unsigned(&x))?;
            case.near("scale", &[f64::from(codes.scale)], 1e-6)?;
            case.near("zero_point", &[f64::from(codes.zero_point)], 0.0)?;
            let grid = grid("uint8")?;
            let y: Vec<i32> = x.into_iter().map(|x| quantize(x, codes, grid)).collect();
            case.near("y", &wide(&y), 0.0)
        }
        name if name.starts_with("qlinear_conv") => convolution(case),
        name if name.starts_with("matmul_integer") => {
            let (zero_a, zero_b) = (case.scalar("a_zero_point")?, case.scalar("b_zero_point")?);
            let y = product(case, zero_a as i32, zero_b as i32)?;
            case.near("y", &wide(&y), 0.0)
        }
        name if name.starts_with("qlinear_matmul") => {
            let acc = product(case, case.scalar("az")? as i32, case.scalar("bz")? as i32)?;
            let y = LinearCodes { scale: case.scalar("ys")? as f32, zero_point: case.scalar("yz")? as i32 };
            let requantize =
                Requantize::new(case.scalar("as")? as f32, case.scalar("bs")? as f32, y, grid("uint8")?);
            let y: Vec<i32> = acc.into_iter().map(|a| requantize.apply(a)).collect();
            case.near("y", &wide(&y), 0.0)
        }
        _ => unknown(case),
    }
}

fn product(case: &Case, zero_a: i32, zero_b: i32) -> Result<Vec<i32>, Failure> {
    let (a, b) = (case.shape("A")?, case.shape("B")?);
    ok(matmul(&case.ints("A")?, zero_a, &case.ints("B")?, zero_b, [a[0], a[1], b[1]]))
}

fn four(shape: &[usize]) -> Result<[usize; 4], Failure> {
    shape.try_into().map_err(|_| format!("{shape:?} has not four axes"))
}

fn convolution(case: &Case) -> Result<(), Failure> {
    let (x, w, w_zero, bias) =
        (case.ints("x")?, case.ints("w")?, case.ints("w_zero_point")?, case.ints("B")?);
    let (stride, pad) = (case.number("stride")? as usize, case.number("pad")? as usize);
    let conv = ConvCodes {
        x: &x,
        x_shape: four(&case.shape("x")?)?,
        x_zero: case.scalar("x_zero_point")? as i32,
        w: &w,
        w_shape: four(&case.shape("w")?)?,
        w_zero: &w_zero,
        bias: &bias,
        window: Window::new([stride; 2], [pad; 2]),
        groups: case.number("group")? as usize,
    };
    let (acc, [_, channels, height, width]) = ok(conv2d(&conv))?;
    let (x_scale, w_scale) = (case.scalar("x_scale")? as f32, f32s(case, "w_scale")?);
    let result = LinearCodes {
        scale: case.scalar("y_scale")? as f32,
        zero_point: case.scalar("y_zero_point")? as i32,
    };
    let unsigned = grid("uint8")?;
    let code = |(i, a): (usize, i32)| {
        let channel = i / (height * width) % channels;
        let w_scale = if w_scale.len() == 1 { w_scale[0] } else { w_scale[channel] };
        Requantize::new(x_scale, w_scale, result, unsigned).apply(a)
    };
    let y: Vec<i32> = acc.into_iter().enumerate().map(code).collect();
    case.near("y", &wide(&y), 0.0)
}

pub fn gemmlowp(case: &Case) -> Result<(), Failure> {
    let ints = |name: &str| case.ints(name);
    let pairs = |a: &str, b: &str| Ok::<_, Failure>(ints(a)?.into_iter().zip(ints(b)?));
    match case.name.as_str() {
        name if name.starts_with("srdhm_i32") => {
            let y = pairs("a", "b")?.map(|(a, b)| saturating_rounding_doubling_high_mul(a, b));
            case.near("y", &wide(&y.collect::<Vec<_>>()), 0.0)
        }
        name if name.starts_with("srdhm_i16") => {
            let y =
                pairs("a", "b")?.map(|(a, b)| saturating_rounding_doubling_high_mul_i16(a as i16, b as i16));
            case.near("y", &wide(&y.collect::<Vec<_>>()), 0.0)
        }
        name if name.starts_with("rounding_divide_by_pot") => {
            let y: Result<Vec<_>, _> =
                pairs("x", "exponent")?.map(|(x, e)| rounding_divide_by_power(x, e)).collect();
            case.near("y", &wide(&ok(y)?), 0.0)
        }
        name if name.starts_with("quantize_multiplier_smaller_than_one") => {
            let found: Result<Vec<_>, _> = f32s(case, "m")?.into_iter().map(FixedMultiplier::new).collect();
            let (m, shift): (Vec<i32>, Vec<i32>) =
                ok(found)?.into_iter().map(|f| (f.multiplier, f.right_shift)).unzip();
            case.near("multiplier", &wide(&m), 0.0)?;
            case.near("right_shift", &wide(&shift), 0.0)
        }
        name if name.starts_with("requantize_srdhm_then_shift") => {
            let (x, shift) = (ints("x")?, ints("right_shift")?);
            let y: Result<Vec<_>, _> = x
                .into_iter()
                .zip(ints("multiplier")?)
                .zip(shift)
                .map(|((x, multiplier), right_shift)| FixedMultiplier { multiplier, right_shift }.apply(x))
                .collect();
            case.near("y", &wide(&ok(y)?), 0.0)
        }
        name if name.starts_with("choose_quantization_params") => {
            let ranges = f32s(case, "min")?.into_iter().zip(f32s(case, "max")?);
            let found: Result<Vec<_>, _> = ranges.map(|(min, max)| choose_parameters(min, max)).collect();
            let found = ok(found)?;
            case.near("scale", &wide(&found.iter().map(|f| f.scale).collect::<Vec<_>>()), 1e-7)?;
            case.near("zero_point", &wide(&found.iter().map(|f| f.zero_point).collect::<Vec<_>>()), 0.0)
        }
        name if name.starts_with("saturating_rounding_multiply_by_pot") => {
            let exponent = case.setting("exponent", "saturating_rounding_multiply_by_pot")? as i32;
            let factor = 1 << exponent;
            for (name, exponent) in
                [(format!("times_{factor}"), exponent), (format!("div_{factor}"), -exponent)]
            {
                let y: Result<Vec<_>, _> = ints("x")?
                    .into_iter()
                    .map(|x| saturating_rounding_multiply_by_power(x, exponent))
                    .collect();
                case.near(&name, &wide(&ok(y)?), 0.0)?;
            }
            Ok(())
        }
        _ => unknown(case),
    }
}
