//! Arguments as Python prints them: numbers, names, lists, tuples, slices, and layers such as `MaxPool2d(kernel_size=2, padding=0)`.

use std::collections::BTreeMap;

use kd_graph::{Dim, NodeId};

use crate::case::Failure;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An axis of a shape.
    Size(Dim),
    Tensor(NodeId),
    List(Vec<Value>),
    Name(String),
    /// `name(1, key=2)`.
    Call(String, Vec<Value>, BTreeMap<String, Value>),
}

impl Value {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut parser = Parser { rest: text.trim() };
        let value = parser.value()?;
        if parser.rest.is_empty() { Ok(value) } else { Err(format!("`{}` after {value:?}", parser.rest)) }
    }

    pub fn tensor(&self) -> Result<NodeId, Failure> {
        match self {
            Value::Tensor(id) => Ok(*id),
            other => Err(format!("a tensor is wanted, not {other:?}")),
        }
    }

    pub fn int(&self) -> Result<i64, Failure> {
        match self {
            Value::Int(value) => Ok(*value),
            Value::Size(Dim::Fixed(size)) => Ok(*size as i64),
            other => Err(format!("an integer is wanted, not {other:?}")),
        }
    }

    pub fn size(&self) -> Result<usize, Failure> {
        usize::try_from(self.int()?).map_err(|_| format!("{self:?} is negative"))
    }

    pub fn float(&self) -> Result<f64, Failure> {
        match self {
            Value::Float(value) => Ok(*value),
            other => Ok(other.int()? as f64),
        }
    }

    /// The elements of a list, or a single value.
    pub fn list(&self) -> Vec<Value> {
        match self {
            Value::List(values) => values.clone(),
            other => vec![other.clone()],
        }
    }

    /// One number for each of some axes, or the same for all.
    pub fn sizes(&self, axes: usize) -> Result<Vec<usize>, Failure> {
        let sizes: Result<Vec<_>, _> = self.list().iter().map(Value::size).collect();
        let sizes = sizes?;
        match sizes.as_slice() {
            [one] => Ok(vec![*one; axes]),
            _ if sizes.len() == axes => Ok(sizes),
            _ => Err(format!("{sizes:?} does not fit {axes} axes")),
        }
    }

    /// An axis, counted from the end if negative.
    pub fn axis(&self, rank: usize) -> Result<usize, Failure> {
        let axis = self.int()?;
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        let place = usize::try_from(axis).ok().filter(|axis| *axis < rank);
        place.ok_or_else(|| format!("there is no axis {axis} of {rank}"))
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn eat(&mut self, token: char) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest).trim_start();
        found.is_some()
    }

    fn value(&mut self) -> Result<Value, Failure> {
        if self.eat('[') {
            return Ok(Value::List(self.items(']')?.0));
        }
        if self.eat('(') {
            return Ok(Value::List(self.items(')')?.0));
        }
        if self.eat('\'') {
            let end = self.rest.find('\'').ok_or("a string without an end")?;
            let text = self.rest[..end].to_owned();
            self.rest = self.rest[end + 1..].trim_start();
            return Ok(Value::Name(text));
        }
        let word = self.word();
        if self.eat('(') {
            let (items, named) = self.items(')')?;
            return Ok(Value::Call(word, items, named));
        }
        Ok(match word.as_str() {
            "" => return Err(format!("nothing to read at `{}`", self.rest)),
            "None" => Value::None,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            word => match (word.parse(), word.parse()) {
                (Ok(int), _) => Value::Int(int),
                (_, Ok(float)) => Value::Float(float),
                _ => Value::Name(word.to_owned()),
            },
        })
    }

    fn word(&mut self) -> String {
        let ends = |letter: char| "[](),=' ".contains(letter);
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.rest = self.rest[end..].trim_start();
        word
    }

    fn items(&mut self, end: char) -> Result<(Vec<Value>, BTreeMap<String, Value>), Failure> {
        let (mut items, mut named) = (Vec::new(), BTreeMap::new());
        while !self.eat(end) {
            match self.value()? {
                Value::Name(key) if self.eat('=') => drop(named.insert(key, self.value()?)),
                value => items.push(value),
            }
            if !self.eat(',') && !self.rest.starts_with(end) {
                return Err(format!("`,` or `{end}` is wanted at `{}`", self.rest));
            }
        }
        Ok((items, named))
    }
}
