//! How a case writes down a symbolic trace.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A step of the trace.
#[derive(Debug, Deserialize)]
pub struct Step {
    pub name: String,
    pub op: String,
    pub target: String,
    pub args: Vec<String>,
    pub kwargs: BTreeMap<String, String>,
}

/// A layer of it.
#[derive(Debug, Deserialize)]
pub struct Module {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "in")]
    pub into: Option<usize>,
    pub out: Option<usize>,
    pub features: Option<usize>,
    pub shape: Option<Vec<usize>>,
    pub kernel: Option<Vec<usize>>,
    pub stride: Option<Vec<usize>>,
    pub padding: Option<Vec<usize>>,
    pub dilation: Option<Vec<usize>>,
    pub groups: Option<usize>,
    pub bias: Option<bool>,
    pub eps: Option<f64>,
    pub repr: Option<String>,
}
