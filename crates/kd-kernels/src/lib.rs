//! Kernels on plain slices.
