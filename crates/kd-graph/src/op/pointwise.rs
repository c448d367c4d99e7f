//! Operations that work on every element by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A literal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scalar {
    /// A floating point number.
    Float(#[serde(with = "super::exact")] f64),
    /// An integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
}

impl Scalar {
    /// The literal as a floating point number; true is 1.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Float(value) => value,
            Scalar::Int(value) => value as f64,
            Scalar::Bool(value) => f64::from(u8::from(value)),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Float(value) => write!(f, "{value}"),
            Scalar::Int(value) => write!(f, "{value}"),
            Scalar::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// A non-linearity, by burn's definition of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, `slope * x` elsewhere.
    LeakyRelu {
        /// Slope below zero.
        #[serde(with = "super::exact")]
        slope: f64,
    },
    /// As leaky ReLU; the slope of every channel is the second input.
    Prelu,
    /// `x * Phi(x)` with the normal distribution's `Phi`.
    Gelu,
    /// GELU by its approximation with a hyperbolic tangent.
    GeluTanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `clamp(alpha * x + beta, 0, 1)`.
    HardSigmoid {
        /// Slope.
        #[serde(with = "super::exact")]
        alpha: f64,
        /// Value at zero.
        #[serde(with = "super::exact")]
        beta: f64,
    },
    /// `log(sigmoid(x))`.
    LogSigmoid,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x * clamp(x/6 + 1/2, 0, 1)`.
    HardSwish,
    /// `log(1 + exp(beta * x)) / beta`.
    Softplus {
        /// Sharpness.
        #[serde(with = "super::exact")]
        beta: f64,
    },
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `x` where positive, `alpha * (exp(x) - 1)` elsewhere.
    Elu {
        /// Bound below zero.
        #[serde(with = "super::exact")]
        alpha: f64,
    },
    /// `x` where positive, `alpha * (exp(x / alpha) - 1)` elsewhere.
    Celu {
        /// Bound below zero.
        #[serde(with = "super::exact")]
        alpha: f64,
    },
    /// `gamma * x` where positive, `gamma * alpha * (exp(x) - 1)` elsewhere, with the constants that keep mean 0 and variance 1.
    Selu,
    /// Hyperbolic tangent.
    Tanh,
}

/// An operation on one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each is the function of its name
pub enum Unary {
    Neg,
    Abs,
    Sign,
    Exp,
    Log,
    Log1p,
    Sqrt,
    Recip,
    Erf,
    Sin,
    Cos,
    Tan,
    Sinh,
    Cosh,
    Asin,
    Acos,
    Atan,
    Asinh,
    Acosh,
    Atanh,
    Round,
    Floor,
    Ceil,
    Trunc,
    Not,
    IsNan,
    IsInf,
}

/// An operation on two tensors of one shape (or broadcast), or on a tensor and a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each is the operation of its name
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
    Min,
    Max,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Lower,
    LowerEqual,
    And,
    Or,
    Xor,
}

impl Binary {
    /// Whether the result is a truth value.
    pub fn compares(self) -> bool {
        use Binary::*;
        matches!(self, Equal | NotEqual | Greater | GreaterEqual | Lower | LowerEqual)
    }
}
