//! Groups of pruning against those that a public implementation of dependency graphs found.
//!
//! Every case holds a network as a symbolic trace (`params.graph`) with its table of layers (`params.modules`). It becomes a [`kd_graph::Graph`],
//! whose groups are compared with `expected.groups` as sets of `(layer, in or out)`, with sizes and index ranges. Prints `family: n of n` and
//! fails if the family is missing or empty, or a case differs or can't run. `KD_GOLDEN_DIR` names another folder of the same format.

// The printed table is what this program is for.
#![allow(clippy::print_stdout)]

mod case;
mod compare;
mod fx;
mod steps;
mod value;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, Failure};

const FAMILY: &str = "prune_groups";

fn main() -> ExitCode {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data");
    let folder = std::env::var_os("KD_GOLDEN_DIR").map_or(built_in, PathBuf::from);
    let cases = match case::read(&folder.join(format!("{FAMILY}.json"))) {
        Ok(cases) => cases,
        Err(why) => {
            println!("{FAMILY}: 0 of 0, {why}");
            return ExitCode::FAILURE;
        }
    };
    let (covered, others): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.has_groups());
    let results: Vec<_> = covered.iter().map(|case| (case, attempt(case, &folder))).collect();
    let passed = results.iter().filter(|(_, result)| result.is_ok()).count();
    println!("{FAMILY}: {passed} of {}", covered.len());
    for (case, result) in &results {
        match result {
            Ok(notes) => notes.iter().for_each(|note| println!("    {}: {note}", case.name)),
            Err(why) => println!("    {}: {why}", case.name),
        }
    }
    println!("{FAMILY}: {} further cases (what to keep, and what is left) not covered", others.len());
    case::other_families(&folder, FAMILY).iter().for_each(|family| println!("{family}: not covered"));
    println!("{passed} passed, {} failed", covered.len() - passed);
    let complete = passed == covered.len() && !covered.is_empty();
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case; a panic is a failure of this case alone.
fn attempt(case: &Case, folder: &Path) -> Result<Vec<String>, Failure> {
    let run = || compare::groups(case, &fx::import(case, folder)?);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("panicked: see above".to_owned()))
}
