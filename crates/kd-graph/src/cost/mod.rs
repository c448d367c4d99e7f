//! What a graph costs: parameters, arithmetic, memory.
