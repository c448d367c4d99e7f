#![allow(clippy::unwrap_used)]
use super::*;

const SMALL: &str = r#"
data.name = "digits"
student.model = "lenet5-tenth"
teacher.model = "lenet5"
[[objective.terms]]
loss = "soft-targets"
weight = { kind = "linear", from = 1.0, to = 0.5 }
[[objective.terms]]
loss = "cross-entropy"
weight = 0.1
"#;

fn error(text: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Recipe::parse("r.toml", text, &sets).unwrap_err().to_string()
}

#[test]
fn a_recipe_survives_being_written_and_read() {
    let recipe = Recipe::parse("r.toml", SMALL, &[]).unwrap();
    let text = toml::to_string(&recipe).unwrap();
    assert_eq!(Recipe::parse("again", &text, &[]).unwrap(), recipe);
}

#[test]
fn every_table_refuses_unknown_keys_and_says_where() {
    for (set, table) in [
        ("colour=1", ""),
        ("data.nam=1", "data"),
        ("student.modl=x", "student"),
        ("teacher.weight=x", "teacher"),
        ("teacher.run.epoch=1", "teacher.run"),
        ("run.optimizer.lr=0.1", "run.optimizer"),
        ("run.optimizer.schedule.kind=cosinus", "run.optimizer.schedule"),
        ("data.augment.flop=true", "data.augment"),
        ("cache.fold=x", "cache"),
        ("objective.norm=none", "objective"),
    ] {
        let text = error(SMALL, &[set]);
        let key = set.split('=').next().unwrap().rsplit('.').next().unwrap();
        let value = set.split('=').nth(1).unwrap();
        assert!(text.starts_with("r.toml: unknown "), "{text}");
        assert!(text.contains(key) || text.contains(value), "{text}");
        assert!(text.contains("expected") && text.contains(table), "{text}");
    }
}

#[test]
fn a_key_that_a_loss_does_not_have_names_the_loss_and_its_keys() {
    let text = error(SMALL, &["objective.terms.0.temprature=4"]);
    assert!(
        text.contains("in [objective.terms.0]: loss `soft-targets`: unknown field `temprature`"),
        "{text}"
    );
    assert!(text.contains("`temperature`"), "{text}");
}

#[test]
fn values_out_of_range_name_key_value_and_range() {
    let cases = [
        ("run.epochs=0", "in [run]: `epochs` is 0, but it must be 1 or more"),
        ("data.batch-size=0", "in [data]: `batch-size` is 0, but it must be 1 or more"),
        ("data.views=0", "in [data]: `views` is 0, but it must be 1 or more, or left out"),
        ("cache.top-k=0", "in [cache]: `top-k` is 0, but it must be 1 or more, or left out"),
        ("teacher.run.epochs=0", "in [teacher.run]: `epochs` is 0"),
        (
            "objective.terms.0.temperature=0",
            "in [objective.terms.0]: loss `soft-targets`: `temperature` is 0",
        ),
        ("objective.terms.0.loss=soft", "there is no loss `soft`; the losses are: cross-entropy, "),
        ("data.name=minst", "there is no dataset \"minst\"; known are digits, mnist"),
        ("student.model=lenet6", "there is no model `lenet6`; the models are: "),
    ];
    for (set, expected) in cases {
        let text = error(SMALL, &[set]);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let alone = SMALL.replace("teacher.model = \"lenet5\"", "");
    assert!(error(&alone, &[]).contains("needs a teacher"));
    assert!(
        error(SMALL, &["teacher.weights=x", "teacher.run.epochs=1"])
            .contains("both `weights` and [teacher.run]")
    );
    assert!(error(SMALL, &["cache.dtype=f16", "data.augment.flip=true"]).contains("needs `data.views`"));
    let two = format!("{SMALL}\n[[teachers]]\nmodel = \"lenet5\"\n");
    assert!(error(&two, &[]).contains("put all of them into [[teachers]]"));
}

#[test]
fn broken_toml_is_told_with_its_line() {
    assert!(error("data = ", &[]).contains("line 1"));
}

#[test]
fn optim_and_lr_are_short_for_the_students_optimizer() {
    let text = format!("run.optimizer.learning-rate = 0.2\nrun.optimizer.momentum = 0.8\n{SMALL}");
    let recipe = Recipe::parse("r.toml", &text, &["optim.lr=0.07".to_owned()]).unwrap();
    assert_eq!((recipe.run.optimizer.learning_rate, recipe.run.optimizer.momentum), (0.07, 0.8));
    assert!(error(SMALL, &["optim.lrr=1"]).contains("lrr"));
    assert!(error(SMALL, &["optim=1"]).contains("optim"));
    assert!(error(SMALL, &["optim.lr=7"]).contains("learning-rate` is 7"));
}
