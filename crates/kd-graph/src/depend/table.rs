//! Groups as a table for people.

use std::collections::BTreeMap;
use std::fmt;

use super::{AttributeKind, Dependencies, Group, Member};
use crate::display::{Align, Column, table};

/// One row for every group of which something can be removed; below, what must stay, by reason.
impl fmt::Display for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prunable = self.groups.iter().filter(|group| group.unprunable().is_none());
        let rows = prunable.map(|group| {
            let members = lines(group.members.iter().map(member));
            let attributes = lines(group.attributes.iter().map(|attribute| {
                format!("{} of {}", attribute_name(attribute.kind), self.name(attribute.node))
            }));
            let (index, size) = (group.index.to_string(), group.len().to_string());
            vec![index, size, members, attributes, lines(self.remarks(group).into_iter())]
        });
        let columns = [
            Column("group", Align::Right),
            Column("size", Align::Right),
            Column("axes", Align::Left),
            Column("also changes", Align::Left),
            Column("remarks", Align::Left),
        ];
        writeln!(f, "{}", table(&columns, rows))?;
        let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for group in &self.groups {
            let (Some(why), Some(first)) = (group.unprunable(), group.members.first()) else { continue };
            let axis = format!("{}[{}]", first.parameter, first.axis);
            kept.entry(why.reason.to_string()).or_default().push(axis);
        }
        for (reason, axes) in kept {
            writeln!(f, "stays because {reason}: {}", axes.join(", "))?;
        }
        Ok(())
    }
}

impl Dependencies {
    fn remarks(&self, group: &Group) -> Vec<String> {
        let mut remarks = Vec::new();
        if !group.crosses.is_empty() {
            let others: Vec<_> = group.crosses.iter().map(usize::to_string).collect();
            remarks.push(format!("crosses {}", others.join(", ")));
        }
        let fixed = group.fixed.iter().flatten();
        if let Some(why) = fixed.clone().min() {
            let (count, node) = (fixed.count(), self.name(why.node));
            remarks.push(format!("{count} must stay: {}, at {node}", why.reason));
        }
        for inexact in &group.inexact {
            remarks.push(format!("not as zeroing: {}, at {}", inexact.mixing, self.name(inexact.node)));
        }
        remarks
    }
}

fn lines(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("\n")
}

fn member(member: &Member) -> String {
    let (first, last) = member.range().unwrap_or_default();
    format!("{}[{}] {first}..={last}", member.parameter, member.axis)
}

fn attribute_name(kind: AttributeKind) -> String {
    match kind {
        AttributeKind::Groups => "groups".to_owned(),
        AttributeKind::Size { axis } => format!("size of axis {axis}"),
        AttributeKind::Range { axis } => format!("range of axis {axis}"),
        AttributeKind::Padding { axis } => format!("border of axis {axis}"),
        AttributeKind::Times => "copies".to_owned(),
        AttributeKind::Scale => "scale".to_owned(),
    }
}
