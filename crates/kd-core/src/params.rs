//! Learnable parts of losses: adapters, regressors, memory banks.

use std::any::Any;
use std::collections::BTreeMap;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::tensor::{Device, Tensor};

/// Why a parameter could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// No parameter of this path.
    #[error("the loss has no parameter `{path}`; it has: {}", known.join(", "))]
    Missing {
        /// Path asked for.
        path: String,
        /// Paths that exist.
        known: Vec<String>,
    },
    /// The parameter has another rank.
    #[error("parameter `{path}` has rank {rank}, not {asked}")]
    Rank {
        /// Path asked for.
        path: String,
        /// Rank asked for.
        asked: usize,
        /// Rank held.
        rank: usize,
    },
    /// Parameters have one to four axes.
    #[error("parameter `{path}` has rank {rank}; a loss's parameters have rank 1 to 4")]
    Unsupported {
        /// Path given.
        path: String,
        /// Rank given.
        rank: usize,
    },
}

/// A module of named tensors of rank 1 to 4, made at run time.
///
/// The optimizer, the checkpoint and the device move see it like any other burn module; paths look like `hint.regressor.weight`.
/// A buffer is an entry without gradient.
///
/// ```
/// use burn::{module::Module, tensor::{Device, Tensor}};
/// use kd_core::Params;
///
/// let device = Device::flex();
/// let mut params = Params::default();
/// params.insert("hint.weight", Tensor::<2>::ones([3, 4], &device))?;
/// assert_eq!(params.num_params(), 12);
/// assert_eq!(params.get::<2>("hint.weight")?.dims(), [3, 4]);
/// # Ok::<(), kd_core::ParamError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Params {
    entries: BTreeMap<String, Entry>,
}

/// One parameter. `Module` visits parameters by rank, so the rank has to be spelt out.
#[derive(Clone, Debug)]
enum Entry {
    R1(Param<Tensor<1>>),
    R2(Param<Tensor<2>>),
    R3(Param<Tensor<3>>),
    R4(Param<Tensor<4>>),
}

/// Runs `$body` with `$param` bound to the parameter, whatever its rank.
macro_rules! with_param {
    ($entry:expr, $param:ident => $body:expr) => {
        match $entry {
            Entry::R1($param) => $body,
            Entry::R2($param) => $body,
            Entry::R3($param) => $body,
            Entry::R4($param) => $body,
        }
    };
}

/// As [`with_param`], and wraps the result in the same rank again.
macro_rules! map_param {
    ($entry:expr, $param:ident => $body:expr) => {
        match $entry {
            Entry::R1($param) => Entry::R1($body),
            Entry::R2($param) => Entry::R2($body),
            Entry::R3($param) => Entry::R3($body),
            Entry::R4($param) => Entry::R4($body),
        }
    };
}

impl Entry {
    fn new<const D: usize>(param: Param<Tensor<D>>) -> Option<Self> {
        let any: &dyn Any = &param;
        let one = any.downcast_ref::<Param<Tensor<1>>>().cloned().map(Entry::R1);
        one.or_else(|| any.downcast_ref().cloned().map(Entry::R2))
            .or_else(|| any.downcast_ref().cloned().map(Entry::R3))
            .or_else(|| any.downcast_ref().cloned().map(Entry::R4))
    }

    fn tensor<const D: usize>(&self) -> Option<Tensor<D>> {
        let any: &dyn Any = with_param!(self, param => param);
        any.downcast_ref::<Param<Tensor<D>>>().map(Param::val)
    }

    fn rank(&self) -> usize {
        with_param!(self, param => param.val().dims().len())
    }
}

impl Params {
    /// Adds a learnable parameter; one of the same path is replaced.
    ///
    /// # Errors
    /// [`ParamError::Unsupported`] for a rank above 4.
    pub fn insert<const D: usize>(&mut self, path: &str, value: Tensor<D>) -> Result<(), ParamError> {
        self.put(path, Param::from_tensor(value))
    }

    /// Adds a buffer: recorded, but without gradient.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_buffer<const D: usize>(&mut self, path: &str, value: Tensor<D>) -> Result<(), ParamError> {
        self.put(path, Param::from_tensor(value).set_require_grad(false))
    }

    fn put<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Result<(), ParamError> {
        let unsupported = || ParamError::Unsupported { path: path.to_owned(), rank: D };
        self.entries.insert(path.to_owned(), Entry::new(param).ok_or_else(unsupported)?);
        Ok(())
    }

    /// The parameter's tensor, tracked by autodiff when it is learnable and lives on an autodiff device.
    ///
    /// # Errors
    /// [`ParamError::Missing`] or [`ParamError::Rank`].
    pub fn get<const D: usize>(&self, path: &str) -> Result<Tensor<D>, ParamError> {
        let missing = || ParamError::Missing { path: path.to_owned(), known: self.paths() };
        let entry = self.entries.get(path).ok_or_else(missing)?;
        entry.tensor().ok_or_else(|| ParamError::Rank { path: path.to_owned(), asked: D, rank: entry.rank() })
    }

    /// Overwrites a buffer's numbers.
    ///
    /// # Errors
    /// [`ParamError::Missing`] or [`ParamError::Rank`].
    pub fn set_buffer<const D: usize>(&mut self, path: &str, value: Tensor<D>) -> Result<(), ParamError> {
        self.get::<D>(path)?;
        let id = self.entries.get(path).map(|entry| with_param!(entry, param => param.id));
        let id = id.unwrap_or_default();
        self.put(path, Param::initialized(id, value.detach()).set_require_grad(false))
    }

    /// Every path, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Whether there are no parameters at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn map_entries(self, mut f: impl FnMut(&str, Entry) -> Entry) -> Self {
        let entries = self.entries.into_iter().map(|(path, entry)| {
            let entry = f(&path, entry);
            (path, entry)
        });
        Self { entries: entries.collect() }
    }
}

impl Module for Params {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.entries.values().fold(devices, |devices, e| with_param!(e, p => p.collect_devices(devices)))
    }

    fn fork(self, device: &Device) -> Self {
        self.map_entries(|_, e| map_param!(e, p => p.fork(device)))
    }

    fn to_device(self, device: &Device) -> Self {
        self.map_entries(|_, e| map_param!(e, p => Module::to_device(p, device)))
    }

    fn train(self) -> Self {
        self.map_entries(|_, e| map_param!(e, p => p.train()))
    }

    fn valid(&self) -> Self {
        self.clone().map_entries(|_, e| map_param!(e, p => p.valid()))
    }

    fn materialize(self) -> Self {
        self.map_entries(|_, e| map_param!(e, p => p.materialize()))
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (path, entry) in &self.entries {
            path.split('.').for_each(|segment| visitor.enter_module(segment, "Params"));
            with_param!(entry, param => param.visit(visitor));
            path.rsplit('.').for_each(|segment| visitor.exit_module(segment, "Params"));
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        self.map_entries(|path, entry| {
            path.split('.').for_each(|segment| mapper.enter_module(segment, "Params"));
            let entry = map_param!(entry, param => Module::map(param, mapper));
            path.rsplit('.').for_each(|segment| mapper.exit_module(segment, "Params"));
            entry
        })
    }
}

impl ModuleDisplayDefault for Params {
    fn content(&self, content: Content) -> Option<Content> {
        let content = content.set_top_level_type("Params");
        self.paths().iter().fold(content, |content, path| content.add_formatted(path)).optional()
    }
}

impl ModuleDisplay for Params {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::optim::{GradientsParams, SgdConfig};

    fn sample(device: &Device) -> Params {
        let mut params = Params::default();
        params.insert("hint.weight", Tensor::<2>::ones([2, 2], device)).unwrap();
        params.insert_buffer("crd.memory", Tensor::<1>::zeros([3], device)).unwrap();
        params
    }

    #[test]
    fn a_record_round_trip_keeps_every_number() {
        let device = Device::flex();
        let mut params = sample(&device);
        params.set_buffer("crd.memory", Tensor::<1>::from_floats([1.0, 2.0, 3.0], &device)).unwrap();
        let loaded = sample(&device).try_load_record(params.into_record()).unwrap();
        let memory = loaded.get::<1>("crd.memory").unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(memory, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_optimizer_moves_parameters_and_leaves_buffers() {
        let device = Device::flex().autodiff();
        let params = sample(&device);
        let loss =
            params.get::<2>("hint.weight").unwrap().sum() + params.get::<1>("crd.memory").unwrap().sum();
        let grads = GradientsParams::from_grads(loss.backward(), &params);
        let params = SgdConfig::new().init().step(0.5, params, grads);
        let weight = params.get::<2>("hint.weight").unwrap().into_data().try_to_vec::<f32>().unwrap();
        let memory = params.get::<1>("crd.memory").unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!((weight, memory), (vec![0.5; 4], vec![0.0; 3]));
    }

    #[test]
    fn a_wrong_path_or_rank_is_an_error_that_names_what_is_there() {
        let params = sample(&Device::flex());
        let error = params.get::<2>("hint.wieght").unwrap_err().to_string();
        assert!(error.contains("hint.wieght") && error.contains("crd.memory, hint.weight"), "{error}");
        let rank = ParamError::Rank { path: "hint.weight".into(), asked: 3, rank: 2 };
        assert_eq!(params.get::<3>("hint.weight").unwrap_err(), rank);
    }
}
