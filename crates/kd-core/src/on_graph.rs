//! Networks that run as graphs, for methods that change the graph.

use kd_graph::GraphModule;

use crate::{Compiled, Network, Traced};

/// A network whose graph can be exchanged: what pruning and quantisation need of it in the middle of a run.
pub trait OnGraph: Network + Sized {
    /// The graph it runs as; none for a network that runs on burn's operations as it was written.
    fn module(&self) -> Option<&GraphModule>;

    /// The same network around another graph, which has the inputs and outputs of its own; one that runs without a graph stays as it is.
    #[must_use]
    fn with_module(self, module: GraphModule) -> Self;
}

impl OnGraph for GraphModule {
    fn module(&self) -> Option<&GraphModule> {
        Some(self)
    }

    fn with_module(self, module: GraphModule) -> Self {
        module
    }
}

impl<I> OnGraph for Traced<I>
where
    Traced<I>: Network,
{
    fn module(&self) -> Option<&GraphModule> {
        Some(Traced::module(self))
    }

    fn with_module(self, module: GraphModule) -> Self {
        module.into()
    }
}

impl<N: Network> OnGraph for Compiled<N>
where
    Compiled<N>: Network,
{
    fn module(&self) -> Option<&GraphModule> {
        self.graph()
    }

    fn with_module(self, module: GraphModule) -> Self {
        self.exchange(module)
    }
}
