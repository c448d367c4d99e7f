//! `kd distill`: a student from one or several teachers.

use anyhow::{Result, bail};
use kd::core::Compiled;
use kd::experiment::{Plan, Study, StudyError, labels, zoo};
use kd::models::Zoo;
use kd::program::Program;
use kd::recipe::{Recipe, RecipeError, TermSettings};
use kd::train::teacher::{NetworkTeacher, Teacher};

use super::train::RecipeOptions;

/// Options of `kd distill`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
    /// Leave out the student trained alone.
    #[arg(long)]
    skip_alone: bool,
}

/// Distils.
pub fn run(program: &Program, options: &Options) -> Result<()> {
    let recipe = options.recipe.load()?;
    if recipe.all_teachers().next().is_none() {
        bail!(RecipeError::Missing { table: "teacher", advice: "add `teacher.model`, or use `kd train`" });
    }
    if recipe.prune.is_some() {
        bail!(RecipeError::Unused { table: "prune", advice: "use `kd prune`" });
    }
    let mut study = options.recipe.study(program, &recipe)?;
    let teachers = teachers(&mut study, &recipe)?;
    study.compare_with(&teachers)?;

    let student = || zoo(&recipe.student.model);
    let mut alone = None;
    if !options.skip_alone {
        alone = study
            .train(&Plan::new("student alone", recipe.run.clone(), student(), labels))?
            .into_iter()
            .next();
    }
    let mut distilled =
        Plan::new("distilled", recipe.run.clone(), student(), || Ok(recipe.objective.build()?));
    for teacher in &teachers {
        distilled = match &recipe.cache {
            Some(cache) => distilled.cached_teacher(teacher.clone(), cache),
            None => distilled.teacher(teacher.clone()),
        };
    }
    let trained = study.train(&distilled)?;
    if let Some((student_taps, teacher_taps)) =
        recipe.objective.terms.iter().find_map(TermSettings::attention_taps)
    {
        for teacher in &teachers {
            study.show_attention(teacher.name(), teacher.network(), &teacher_taps)?;
        }
        if let Some(alone) = &alone {
            study.show_attention("alone", &alone.outcome.best, &student_taps)?;
        }
        if let Some(student) = trained.first() {
            study.show_attention("distilled", &student.outcome.best, &student_taps)?;
        }
    }
    options.recipe.finish(study, &recipe)
}

/// Loads or trains every teacher; all are rows of the table.
fn teachers(study: &mut Study, recipe: &Recipe) -> Result<Vec<NetworkTeacher<Compiled<Zoo>>>, StudyError> {
    let several = recipe.teachers.len() > 1;
    let mut teachers = Vec::new();
    for (index, settings) in recipe.all_teachers().enumerate() {
        let name = if several { format!("teacher {}", index + 1) } else { "teacher".to_owned() };
        teachers.push(match &settings.weights {
            Some(weights) => study.load(&name, &settings.model, weights)?,
            None => {
                let run = settings.run.clone().unwrap_or_default();
                study.train_once(&Plan::new(name, run, zoo(&settings.model), labels))?.teacher(study.device())
            }
        });
    }
    Ok(teachers)
}
