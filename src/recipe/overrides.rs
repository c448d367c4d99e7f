//! Settings from the command line: `--set a.b=value`.

use toml::{Table, Value};

use super::RecipeError;

/// Sets one value by its dotted path; tables on the way are made, elements of arrays must exist.
pub(super) fn apply(table: &mut Table, set: &str) -> Result<(), RecipeError> {
    let wrong = |message: String| RecipeError::Set { set: set.to_owned(), message };
    let (path, value) =
        set.split_once('=').ok_or_else(|| wrong("write it as key.of.the.value=VALUE".to_owned()))?;
    let keys: Vec<&str> = path.trim().split('.').map(str::trim).collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(wrong(format!("`{path}` has an empty key")));
    }
    let value = parse(value.trim()).map_err(wrong)?;
    let Some((&last, parents)) = keys.split_last() else { return Ok(()) };
    let Some((&first, parents)) = parents.split_first() else {
        table.insert(last.to_owned(), value);
        return Ok(());
    };
    let mut target = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
    for &key in parents {
        target = enter(target, key).map_err(wrong)?;
    }
    *enter(target, last).map_err(wrong)? = value;
    Ok(())
}

/// What lies under `key`: in a table made if it is not there.
fn enter<'a>(value: &'a mut Value, key: &str) -> Result<&'a mut Value, String> {
    match value {
        Value::Table(table) => Ok(table.entry(key).or_insert_with(|| Value::Table(Table::new()))),
        Value::Array(array) => {
            let len = array.len();
            let found = key.parse().ok().and_then(|index: usize| array.get_mut(index));
            found.ok_or_else(|| format!("`{key}` is none of the {len} elements, which count from 0"))
        }
        other => {
            let kind = other.type_str();
            Err(format!("`{key}` lies within a value of type {kind}, which has no keys"))
        }
    }
}

/// A TOML value, or a bare word as a string.
fn parse(text: &str) -> Result<Value, String> {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    if let Some(value) =
        parsed.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"))
    {
        return Ok(value);
    }
    let broken = text.is_empty() || text.starts_with(['"', '\'', '[', '{']) || text.contains('\n');
    if broken { Err(format!("`{text}` is no TOML value")) } else { Ok(Value::String(text.to_owned())) }
}

/// Lets `optim` stand for `run.optimizer`, and `lr` in it for `learning-rate`: what one changes most often is short to write.
pub(super) fn expand_short_names(table: &mut Table) {
    let Some(Value::Table(short)) = table.get("optim").cloned() else { return };
    let run = table.entry("run").or_insert_with(|| Table::new().into());
    let Some(optimizer) = run
        .as_table_mut()
        .and_then(|run| run.entry("optimizer").or_insert_with(|| Table::new().into()).as_table_mut())
    else {
        return;
    };
    for (key, value) in short {
        let key = if key == "lr" { "learning-rate".to_owned() } else { key };
        optimizer.insert(key, value);
    }
    table.remove("optim");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(set: &str) -> Result<String, String> {
        let mut table = toml::toml! {
            a = { b = 1 }
            terms = [{ weight = 1.0 }, { weight = 2.0 }]
        };
        apply(&mut table, set).map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&table).unwrap())
    }

    #[test]
    fn values_are_toml_or_bare_words() {
        for (set, expected) in [
            ("a.b=2.5", r#""a":{"b":2.5}"#),
            ("a.b=[1, 2]", r#""a":{"b":[1,2]}"#),
            ("a.b=\"x=y\"", r#""a":{"b":"x=y"}"#),
            ("a.b=soft-targets", r#""a":{"b":"soft-targets"}"#),
            ("a.b=mlp:800,800", r#""a":{"b":"mlp:800,800"}"#),
            ("a.c.d=true", r#""a":{"b":1,"c":{"d":true}}"#),
            ("terms.1.weight=0.5", r#"[{"weight":1.0},{"weight":0.5}]"#),
            ("new=1", r#""new":1"#),
        ] {
            let found = after(set).unwrap();
            assert!(found.contains(expected), "{set}: {found}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_in_words() {
        let error = |set| after(set).unwrap_err();
        assert_eq!(error("a.b"), "--set a.b: write it as key.of.the.value=VALUE");
        assert!(error("a.b.c=1").contains("`c` lies within a value of type integer"));
        assert!(error("terms.2.weight=1").contains("`2` is none of the 2 elements"));
        assert!(error("a..b=1").contains("empty key"));
        assert!(error("a.b=[1").contains("`[1` is no TOML value"));
        assert!(error("a.b=").contains("no TOML value"));
    }
}
