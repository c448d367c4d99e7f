//! The roofline: what a machine could do at best, and what keeps it from more.
//!
//! A node that does $F$ operations on $M$ bytes of memory takes at least $ \max(F / \pi, M / \beta) $ seconds on a machine of $\pi$ operations and
//! $\beta$ bytes a second. Bytes are counted as if no cache kept anything between nodes, so that a node whose data is still in a cache can be
//! faster: this is the time of a pass through memory, no lower bound (Williams, Waterman and Patterson 2009, *Roofline: an insightful visual performance model for multicore architectures*).

use std::fmt;

use serde::Serialize;

use super::Cost;

/// What a machine can do in a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Floating point operations a second.
    pub flops: f64,
    /// Bytes a second between memory and processor.
    pub bandwidth: f64,
    /// Bytes of memory that weights and activations may take together, if there is a bound.
    pub memory: Option<u64>,
}

impl Machine {
    /// The arithmetic intensity above which arithmetic is the bound, in FLOPs a byte.
    pub fn ridge(&self) -> f64 {
        self.flops / self.bandwidth
    }
}

/// What to reduce first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// Reading the weights, or fitting them into memory: fewer or shorter weights help.
    Size,
    /// Reading and writing activations: fused, narrower or fewer nodes help.
    MemoryTraffic,
    /// Arithmetic: fewer or cheaper operations help.
    Compute,
    /// Activations do not fit into memory: a smaller batch or narrower early layers help.
    ActivationMemory,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "size",
            Self::MemoryTraffic => "memory traffic",
            Self::Compute => "compute",
            Self::ActivationMemory => "activation memory",
        })
    }
}

/// A graph's cost on a machine: the time of every node at the roofline, everything through memory, by what bounds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// The machine.
    pub machine: Machine,
    /// Seconds of the nodes that arithmetic bounds.
    pub compute_seconds: f64,
    /// Seconds of the nodes that traffic bounds, for the share of it that is weights.
    pub weight_seconds: f64,
    /// Seconds of the nodes that traffic bounds, for the share of it that is activations.
    pub activation_seconds: f64,
    /// Bytes of weights and of the most activations alive at once.
    pub footprint: u64,
    /// Nodes that were measured faster than their time here: their data stayed in a cache, or other work slowed the machine's measurement.
    pub faster_nodes: usize,
    /// The largest of these.
    pub bottleneck: Bottleneck,
}

impl Roofline {
    /// Time of a forward pass at the roofline. Caches can make a real one shorter.
    pub fn seconds(&self) -> f64 {
        self.compute_seconds + self.weight_seconds + self.activation_seconds
    }
}

impl Cost {
    /// What bounds the graph on a machine.
    ///
    /// If weights and activations do not fit into its memory together, the larger of both is the bottleneck: size or activation memory. Otherwise
    /// it is what most of the time at the roofline goes to: compute, weights (size) or activations (memory traffic).
    pub fn roofline(&self, machine: Machine) -> Roofline {
        let [mut compute, mut weights, mut activations] = [0.0; 3];
        let mut faster_nodes = 0;
        for node in &self.nodes {
            let arithmetic = node.flops as f64 / machine.flops;
            let traffic = node.bytes_moved() as f64 / machine.bandwidth;
            faster_nodes +=
                usize::from(node.milliseconds.is_some_and(|ms| ms / 1e3 < arithmetic.max(traffic)));
            if arithmetic >= traffic {
                compute += arithmetic;
            } else {
                weights += node.weight_bytes as f64 / machine.bandwidth;
                activations += node.activation_bytes as f64 / machine.bandwidth;
            }
        }
        let footprint = self.weight_bytes.saturating_add(self.peak_activation_bytes);
        let bottleneck = match machine.memory {
            Some(memory) if footprint > memory && self.weight_bytes >= self.peak_activation_bytes => {
                Bottleneck::Size
            }
            Some(memory) if footprint > memory => Bottleneck::ActivationMemory,
            _ if compute >= weights.max(activations) => Bottleneck::Compute,
            _ if weights >= activations => Bottleneck::Size,
            _ => Bottleneck::MemoryTraffic,
        };
        Roofline {
            machine,
            compute_seconds: compute,
            weight_seconds: weights,
            activation_seconds: activations,
            footprint,
            faster_nodes,
            bottleneck,
        }
    }
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, .. } = self;
        let share = |seconds: f64| {
            let share = if self.seconds() > 0.0 { 100.0 * seconds / self.seconds() } else { 0.0 };
            format!("{:.3} ms ({share:.0} %)", seconds * 1e3)
        };
        writeln!(
            f,
            "machine: {:.1} GFLOP/s, {:.1} GB/s; arithmetic bounds a node above {:.1} FLOPs a byte",
            machine.flops / 1e9,
            machine.bandwidth / 1e9,
            machine.ridge()
        )?;
        writeln!(
            f,
            "at the roofline: {:.3} ms with everything through memory, of it compute {}, weights {}, activations {}",
            self.seconds() * 1e3,
            share(self.compute_seconds),
            share(self.weight_seconds),
            share(self.activation_seconds)
        )?;
        if self.faster_nodes > 0 {
            writeln!(
                f,
                "faster than that: {} nodes; their data stays in a cache, or other work slowed the machine's measurement",
                self.faster_nodes
            )?;
        }
        let memory =
            machine.memory.map_or_else(String::new, |memory| format!(" of {}", super::table::bytes(memory)));
        writeln!(f, "memory: {}{memory}", super::table::bytes(self.footprint))?;
        write!(f, "bottleneck: {}", self.bottleneck)
    }
}
