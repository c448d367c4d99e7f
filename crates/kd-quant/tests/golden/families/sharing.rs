use kd_quant::sharing::{Codebook, KMeans};

use crate::case::{Case, Failure, close, ok, read};

pub fn run(case: &Case) -> Result<(), Failure> {
    let w = case.tensor("w")?;
    let bits = case.bits("bits")?;
    let kept: Vec<f32> = case.values("w")?.into_iter().filter(|&v| v != 0.0).map(|v| v as f32).collect();
    case.near("init_centroids", &ok(KMeans::new(1 << bits).start(&kept))?, 1e-6)?;
    let book = ok(Codebook::fit(&w, bits))?;
    // The peer numbers its centroids by their start, and those of empty clusters by chance; ours ascend.
    let wanted = case.wanted("centroids")?;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let ascending: Vec<f64> = order.iter().map(|&i| wanted[i]).collect();
    close("centroids", &book.clusters().centroids, &ascending, 1e-4, 1.0)?;
    let codes: Vec<f64> =
        book.codes().iter().map(|code| code.map_or(-1.0, |code| order[code as usize] as f64)).collect();
    case.near("assignment", &codes, 0.0)?;
    case.relative("sse", &[book.clusters().error], 1e-4)?;
    let shared = ok(book.weight(book.centroids(&case.device()), w.dims()))?;
    case.near("w_shared", &read(&shared), 1e-4)
}
