//! Quantisers, their gradients and integer arithmetic against numbers that public reference implementations gave.
//!
//! Prints `family: n of n` for every covered family and fails if a family is missing or empty, or a case is off or can't run.
//! `KD_GOLDEN_DIR` names another folder of the same format: a JSON list of cases with `case`, `source`, `note`, `params`, `inputs` and `expected`.

// The printed table is what this program is for.
#![allow(clippy::print_stdout)]

mod case;
mod families;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, Failure};
use families::{FAMILIES, Family};

fn main() -> ExitCode {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data");
    let folder = std::env::var_os("KD_GOLDEN_DIR").map_or(built_in, PathBuf::from);
    let (mut passed, mut failed) = (0, 0);
    for family in FAMILIES {
        let name = family.name;
        match cases(&folder.join(format!("{name}.json")), family) {
            Ok((cases, others)) => {
                let failures: Vec<_> =
                    cases.iter().filter_map(|case| Some((case, attempt(family, case).err()?))).collect();
                println!("{name}: {} of {}", cases.len() - failures.len(), cases.len());
                if others > 0 {
                    println!("    {others} more cases are not of quantisation");
                }
                failures.iter().for_each(|(case, why)| println!("    {}: {why}", case.name));
                passed += cases.len() - failures.len();
                failed += failures.len();
            }
            Err(why) => {
                println!("{name}: 0 of 0, {why}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case; a panic is a failure of this case alone.
fn attempt(family: &Family, case: &Case) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(|| (family.run)(case)))
        .unwrap_or_else(|_| Err("panicked: see above".to_owned()))
}

/// The family's cases, and how many others the file holds.
fn cases(path: &Path, family: &Family) -> Result<(Vec<Case>, usize), Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let all: Vec<Case> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let total = all.len();
    let cases: Vec<_> = all.into_iter().filter(|case| case.name.starts_with(family.prefix)).collect();
    if cases.is_empty() {
        return Err(format!("{} holds no case", path.display()));
    }
    let others = total - cases.len();
    Ok((cases, others))
}
