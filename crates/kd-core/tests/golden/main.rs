//! Losses and gradients against numbers that public reference implementations gave.
//!
//! Prints `family: n of n` for every covered family and fails if a family is missing or empty, or a case is off or can't run.
//! `KD_GOLDEN_DIR` names another folder of the same format. The format: a JSON list of cases with `case`, `source`, `params`, `inputs`
//! (`shape`, `data`) and `expected` (`loss`, `grads`, further outputs).

// The printed table is what this program is for.
#![allow(clippy::print_stdout)]

mod case;
mod families;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, Failure};
use families::{FAMILIES, Run};

fn main() -> ExitCode {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = std::env::var_os("KD_GOLDEN_DIR").map_or(built_in, PathBuf::from);
    let (mut passed, mut failed) = (0, 0);
    for (family, run) in FAMILIES {
        match cases(&folder.join(format!("{family}.json"))) {
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
    for family in others(&folder) {
        println!("{family}: not covered");
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case; a panic is a failure of this case alone.
fn attempt(run: Run, case: &Case) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|_| Err("panicked: see above".to_owned()))
}

fn cases(path: &Path) -> Result<Vec<Case>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let cases: Vec<Case> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if cases.is_empty() { Err(format!("{} holds no case", path.display())) } else { Ok(cases) }
}

/// Names of the JSON files that no family covers.
fn others(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let names = json.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = names.filter(|name| FAMILIES.iter().all(|(family, _)| family != name)).collect();
    names.sort();
    names
}
