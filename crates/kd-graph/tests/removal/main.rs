//! Removing is zeroing: random networks compute the same whether channels are zeroed where they are made, or removed everywhere.
//!
//! Only what makes a channel is zeroed, not what reads it, so that a reader that loses the wrong index is found out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod network;
mod support;

use std::collections::BTreeSet;

use kd_graph::{Dependencies, Graph, Position};

use support::{Random, difference};

/// About half of the positions of which removing is zeroing.
fn some_positions(graph: &Graph, dependencies: &Dependencies, random: &mut Random) -> BTreeSet<Position> {
    let exact = dependencies.groups().iter().filter(|group| group.inexact.is_empty());
    let free = exact.flat_map(|group| {
        let free = group.fixed.iter().enumerate().filter(|(_, why)| why.is_none());
        free.map(|(index, _)| group.position(index))
    });
    let mut candidates: Vec<Position> = free.collect();
    random.shuffle(&mut candidates);
    let mut chosen = BTreeSet::new();
    for position in candidates.into_iter().step_by(2) {
        chosen.insert(position);
        if dependencies.remove(graph, chosen.iter().copied()).is_err() {
            chosen.remove(&position);
        }
    }
    chosen
}

#[test]
fn zeroed_and_removed_channels_give_the_same_output() {
    let (mut removals, mut products, mut inexact) = (0, 0, 0);
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let graph = network::random(&mut random);
        let dependencies = graph.dependencies();
        let chosen = some_positions(&graph, &dependencies, &mut random);
        let smaller = dependencies.remove(&graph, chosen.iter().copied()).unwrap();
        let zeroed = dependencies.zero(&graph, chosen.iter().copied()).unwrap();
        let difference = difference(&zeroed, &smaller, &mut random);
        assert!(difference <= 1e-5, "seed {seed}: {difference}\n{graph}\n{dependencies}\n{chosen:?}");
        removals += chosen.len();
        inexact += dependencies.groups().iter().filter(|group| !group.inexact.is_empty()).count();
        products += dependencies.groups().iter().filter(|group| !group.crosses.is_empty()).count();
    }
    let enough = removals > 1000 && products > 200 && inexact > 50;
    assert!(enough, "{removals} removals, {products} products, {inexact} inexact groups prove little");
}

#[test]
fn every_single_position_can_go() {
    for seed in 0..60 {
        let graph = network::random(&mut Random::new(seed));
        let dependencies = graph.dependencies();
        for group in dependencies.groups() {
            for index in (0..group.len()).filter(|&index| group.fixed[index].is_none()) {
                match dependencies.remove(&graph, [group.position(index)]) {
                    Ok(smaller) => smaller.validate().unwrap(),
                    // A slice of one channel, say.
                    Err(kd_graph::RemoveError::Empty { .. }) => {}
                    Err(error) => {
                        panic!("seed {seed}, group {}: {error}\n{graph}\n{dependencies}", group.index)
                    }
                }
            }
        }
    }
}

#[test]
fn a_channel_zeroed_in_the_wrong_place_is_noticed() {
    let mut noticed = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let graph = network::random(&mut random);
        let dependencies = graph.dependencies();
        let Some(group) =
            dependencies.groups().iter().find(|group| group.fixed.iter().flatten().count() == 0)
        else {
            continue;
        };
        let [gone, other] = [0, group.len() - 1].map(|index| BTreeSet::from([group.position(index)]));
        if gone == other || dependencies.remove(&graph, gone.iter().copied()).is_err() {
            continue;
        }
        let smaller = dependencies.remove(&graph, gone).unwrap();
        let zeroed = dependencies.zero(&graph, other).unwrap();
        noticed += usize::from(difference(&zeroed, &smaller, &mut random) > 1e-3);
    }
    assert!(noticed > 20, "only {noticed}");
}
