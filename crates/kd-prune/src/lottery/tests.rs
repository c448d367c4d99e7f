#![allow(clippy::unwrap_used)]
use super::*;
use crate::Mask;
use burn::tensor::TensorData;
use kd_graph::{Role, Shape, TensorType};

fn network(weights: [f32; 4]) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
    let weight = graph.parameter("weight", Role::Weight, TensorData::new(weights.to_vec(), [4, 1])).unwrap();
    let bias = graph.parameter("bias", Role::Weight, TensorData::new(vec![weights[0]], [1])).unwrap();
    let y = graph.add("y", Op::Linear, &[x, weight, bias]).unwrap();
    graph.set_outputs(&[y]).unwrap();
    graph
}

fn weights(graph: &Graph) -> Vec<f32> {
    value(graph, "weight").unwrap().values().to_vec()
}

#[test]
fn a_ticket_has_the_earlier_weights_where_the_mask_keeps_them() {
    let mask = Mask::new([4, 1], vec![true, false, true, false]).unwrap();
    let ticket =
        rewound(&network([1.0, 2.0, 3.0, 4.0]), &Masks::from([("weight".to_owned(), mask)])).unwrap();
    assert_eq!(weights(&ticket), [1.0, 0.0, 3.0, 0.0]);
    let other = Masks::from([("wieght".to_owned(), Mask::dense(&[4, 1]))]);
    assert!(rewound(&network([1.0; 4]), &other).unwrap_err().to_string().contains("`wieght`"));
}

#[test]
fn every_round_starts_from_the_earlier_weights_and_prunes_by_the_trained_ones() {
    let earlier = network([1.0, 2.0, 3.0, 4.0]);
    let method = LotteryTicket { rounds: 3, share: 0.5, ..LotteryTicket::default() };
    let mut started = Vec::new();
    let rounds = method.search(&earlier, |_, ticket, masks| {
        started.push(weights(&ticket));
        // Training turns the order of magnitudes around, and moves what is pruned as well: it must not count.
        let turned = network([40.0, 30.0, 20.0, 10.0]);
        assert!(masks.contains_key("weight") && !masks.contains_key("bias"));
        Ok::<_, PruneError>(turned)
    });
    let rounds = rounds.unwrap();
    assert_eq!(started[0], [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(started[1], [1.0, 2.0, 0.0, 0.0]);
    assert_eq!(started[2], [1.0, 0.0, 0.0, 0.0]);
    // The last connection of a layer stays.
    assert_eq!(started[3], started[2]);
    assert_eq!(rounds.iter().map(TicketRound::remaining).collect::<Vec<_>>(), [1.0, 0.5, 0.25, 0.25]);
}

#[test]
fn settings_out_of_range_and_unknown_weights_are_refused_by_name() {
    let search = |method: LotteryTicket| {
        method.search(&network([1.0; 4]), |_, ticket, _| Ok::<_, PruneError>(ticket)).unwrap_err().to_string()
    };
    assert!(search(LotteryTicket { share: 1.0, ..Default::default() }).contains("`share` is 1"));
    assert!(search(LotteryTicket { rounds: 0, ..Default::default() }).contains("`rounds` is 0"));
    let shares = BTreeMap::from([("wieght".to_owned(), 0.1)]);
    assert!(search(LotteryTicket { shares, ..Default::default() }).contains("`weight`"));
}

#[test]
fn a_bump_between_two_networks_is_its_height_over_the_mean_of_the_ends() {
    let (a, b) = (network([0.0; 4]), network([1.0, 4.0, 0.0, 0.0]));
    assert_eq!(weights(&between(&a, &b, 0.25).unwrap()), [0.25, 1.0, 0.0, 0.0]);
    let error = |graph: &Graph| {
        let x = f64::from(weights(graph)[0]);
        Ok::<_, PruneError>(0.1 + 0.2 * x + x * (1.0 - x))
    };
    let found = instability(&a, &b, 4, error).unwrap();
    assert_eq!(found.curve.len(), 5);
    assert!((found.height - 0.25).abs() < 1e-6, "{found:?}");
    assert!(instability(&a, &b, 1, error).is_err());
}
