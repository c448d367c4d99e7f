use kd_quant::sharing::{Codebook, KMeans};

use crate::case::{Case, Failure, ok, read};

pub fn run(case: &Case) -> Result<(), Failure> {
    let w = case.tensor("w")?;
    let bits = case.bits("bits")?;
    let kept: Vec<f32> = case.values("w")?.into_iter().filter(|&v| v != 0.0).map(|v| v as f32).collect();
    case.near("init_centroids", &ok(KMeans::new(1 << bits).start(&kept))?, 1e-6)?;
    let book = ok(Codebook::fit(&w, bits))?;
    case.near("centroids", &book.clusters().centroids, 1e-4)?;
    let codes: Vec<f64> = book.codes().iter().map(|code| code.map_or(-1.0, f64::from)).collect();
    case.near("assignment", &codes, 0.0)?;
    case.relative("sse", &[book.clusters().error], 1e-4)?;
    let shared = ok(book.weight(book.centroids(&case.device()), w.dims()))?;
    case.near("w_shared", &read(&shared), 1e-4)
}
