//! Scores, masks, schedules and pruned networks against numbers that public reference implementations gave.
//!
//! Prints `family: n of n` for every family and fails if a family is missing or empty, or a case is off or can't run. Networks are built from the case,
//! hyper-parameters come from `params`. `KD_GOLDEN_DIR` names another folder of the same format: a JSON list of cases with `case`, `source`,
//! `params`, `inputs` and `expected`; a tensor is `{"shape", "dtype", "data"}`, row-major.

// The printed table is what this program is for.
#![allow(clippy::print_stdout)]

mod case;
mod compare;
mod families;
// The importer of symbolic traces is that of the crate that finds groups.
#[path = "../../../kd-graph/tests/golden/fx/mod.rs"]
mod fx;
mod net;
#[path = "../../../kd-graph/tests/golden/steps.rs"]
mod steps;
#[path = "../../../kd-graph/tests/golden/value.rs"]
mod value;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, Failure};
use families::{FAMILIES, Run};

fn main() -> ExitCode {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data");
    let folder = std::env::var_os("KD_GOLDEN_DIR").map_or(built_in, PathBuf::from);
    let (mut passed, mut failed) = (0, 0);
    for (family, covers, run) in FAMILIES {
        match cases(&folder, family, *covers) {
            Ok(cases) => {
                let failures: Vec<_> =
                    cases.iter().filter_map(|case| Some((case, attempt(*run, case).err()?))).collect();
                println!("{family}: {} of {}", cases.len() - failures.len(), cases.len());
                failures.iter().for_each(|(case, why)| println!("    {}: {why}", case.name));
                passed += cases.len() - failures.len();
                failed += failures.len();
            }
            Err(why) => {
                println!("{family}: 0 of 0, {why}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case; a panic is a failure of this case alone.
fn attempt(run: Run, case: &Case) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|_| Err("panicked: see above".to_owned()))
}

fn cases(folder: &Path, family: &str, covers: fn(&Case) -> bool) -> Result<Vec<Case>, Failure> {
    let path = folder.join(format!("{family}.json"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let cases: Vec<Case> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut cases: Vec<Case> = cases.into_iter().filter(covers).collect();
    cases.iter_mut().for_each(|case| folder.clone_into(&mut case.folder));
    if cases.is_empty() { Err(format!("{} holds no such case", path.display())) } else { Ok(cases) }
}
