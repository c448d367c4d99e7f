//! Outputs of a teacher on disk, so that every epoch after the first is spared its forward pass.
//!
//! A cache is a folder of three files: `header.json` says whose outputs these are, `outputs.bin` holds one record of fixed size for every
//! sample and view, and `lock` keeps a second process away. Every record has a checksum: one that a killed process left half written, or
//! that was never written, is computed anew. A header of another teacher, data set or setting is refused, not overwritten.

mod error;
mod header;
mod record;
mod store;
#[cfg(test)]
mod tests;

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kd_core::{OUTPUT, Taps};

pub use error::CacheError;
pub use header::{CacheKey, CacheSettings, Precision};

use crate::teacher::{Teacher, TeacherError};
use header::Header;
use record::Codec;
use store::Store;

/// A teacher whose outputs are kept on disk.
///
/// Only the output is kept, as float32. A call that wants other taps goes to the teacher itself, see [`serves`](Self::serves). What comes
/// back is always what the disk holds, in the first pass too, so that a run and its repetition see the same numbers. With several `views`
/// a sample has so many fixed augmented versions, through which epochs cycle: the loader's setting `views` must then be the cache's.
///
/// ```
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// # use kd_core::{Network, OUTPUT, Taps};
/// # #[derive(Module, Debug)]
/// # struct Scores { output: Linear }
/// # impl Network for Scores {
/// #     type Input = Tensor<2>;
/// #     type Output = Tensor<2>;
/// #     fn forward(&self, input: Tensor<2>, _taps: &mut Taps) -> Tensor<2> { self.output.forward(input) }
/// # }
/// use kd_train::cache::{CacheKey, CacheSettings, CachedTeacher};
/// use kd_train::teacher::{NetworkTeacher, Teacher};
///
/// let device = Device::flex();
/// let network = Scores { output: LinearConfig::new(4, 3).init(&device) };
/// let teacher = NetworkTeacher::new("scores", network, &device);
/// let key = CacheKey { dataset: "digits".into(), augmentation: "none".into(), samples: 100, output: vec![3] };
///
/// let folder = tempfile::tempdir()?;
/// let mut cached = CachedTeacher::open(teacher, folder.path(), key, &CacheSettings::default(), &device)?;
/// for _epoch in 0..2 {
///     let taps = cached.taps(&Tensor::zeros([2, 4], &device), &[7, 8], 0, &[])?;
///     assert_eq!(taps.get::<2>(OUTPUT)?.dims(), [2, 3]);
/// }
/// assert_eq!((cached.misses(), cached.hits()), (2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CachedTeacher<T> {
    inner: T,
    name: String,
    key: CacheKey,
    views: u64,
    codec: Codec,
    store: Store,
    device: Device,
    hits: u64,
    misses: u64,
}

impl<T> CachedTeacher<T> {
    /// Opens the cache in `folder`, or makes one after logging its size. `device` is where cached outputs go.
    ///
    /// # Errors
    /// [`TeacherError::Cache`] when the settings are out of range, the folder holds another cache or none that can be read, or another
    /// process uses it; [`TeacherError::Fingerprint`] when the teacher's weights cannot be read.
    pub fn open<I>(
        inner: T,
        folder: &Path,
        key: CacheKey,
        settings: &CacheSettings,
        device: &Device,
    ) -> Result<Self, TeacherError>
    where
        T: Teacher<I>,
    {
        let name = inner.name().to_owned();
        let teacher = inner.fingerprint()?;
        let opened = || -> Result<(Codec, Store), CacheError> {
            settings.validate(&key)?;
            let codec = Codec::new(&key.output, settings);
            let store = Store::open(folder, &Header::new(&key, settings, &teacher), codec.bytes())?;
            Ok((codec, store))
        };
        let (codec, store) = opened()
            .map_err(|source| TeacherError::Cache { teacher: name.clone(), source: Box::new(source) })?;
        let device = device.clone().without_autodiff();
        Ok(Self { inner, name, key, views: settings.views, codec, store, device, hits: 0, misses: 0 })
    }

    /// Size of the cache's files in bytes once every sample has been seen in every view.
    pub fn planned_bytes(&self) -> u64 {
        self.store.planned_bytes()
    }

    /// Samples that were read from disk so far.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Samples that the teacher had to compute so far.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// Whether a call with these taps is answered from disk: they name nothing but the output.
    pub fn serves(wanted: &[String]) -> bool {
        wanted.iter().all(|name| name == OUTPUT)
    }

    /// The teacher itself.
    pub fn teacher(&self) -> &T {
        &self.inner
    }

    fn places(&self, ids: &[usize], view: u64) -> Result<Vec<u64>, CacheError> {
        if view >= self.views {
            return Err(CacheError::View { view, views: self.views });
        }
        let place = |&id: &usize| {
            let known = id < self.key.samples;
            known
                .then_some(id as u64 * self.views + view)
                .ok_or(CacheError::Sample { id, samples: self.key.samples })
        };
        ids.iter().map(place).collect()
    }

    /// The numbers of a batch that the teacher computed, one row a sample.
    fn computed(&self, taps: &Taps, samples: usize) -> Result<Vec<f32>, CacheError> {
        let output = taps.value(OUTPUT).map_err(|error| CacheError::Output { message: error.to_string() })?;
        let expected = self.shape(samples);
        if output.shape() != expected {
            return Err(CacheError::Shape { expected, found: output.shape() });
        }
        let flat = output.flat_float().map_err(|error| CacheError::Output { message: error.to_string() })?;
        let numbers = flat.into_data().convert::<f32>().try_to_vec::<f32>();
        numbers.map_err(|error| CacheError::Output { message: format!("{error:?}") })
    }

    fn shape(&self, samples: usize) -> Vec<usize> {
        [samples].into_iter().chain(self.key.output.iter().copied()).collect()
    }

    /// All outputs of a batch, with `compute` called if one is missing.
    fn outputs(
        &mut self,
        ids: &[usize],
        view: u64,
        compute: impl FnOnce(&mut T) -> Result<Taps, TeacherError>,
    ) -> Result<Taps, TeacherError> {
        let name = self.name.clone();
        let failed = |source| TeacherError::Cache { teacher: name.clone(), source: Box::new(source) };
        let places = self.places(ids, view).map_err(failed)?;
        let mut records = Vec::with_capacity(places.len());
        for &place in &places {
            records.push(self.store.read(place).map_err(failed)?);
        }
        let missing = records.iter().filter(|record| record.is_none()).count() as u64;
        if missing > 0 {
            let computed = compute(&mut self.inner)?;
            let computed = self.computed(&computed, ids.len()).map_err(failed)?;
            for (slot, row) in computed.chunks_exact(self.codec.numbers().max(1)).enumerate() {
                if let (Some(record @ None), Some(&place)) = (records.get_mut(slot), places.get(slot)) {
                    let bytes = self.codec.encode(row).map_err(failed)?;
                    self.store.write(place, &bytes).map_err(failed)?;
                    *record = Some(bytes);
                }
            }
        }
        self.misses += missing;
        self.hits += ids.len() as u64 - missing;
        let mut numbers = Vec::with_capacity(ids.len() * self.codec.numbers());
        records.iter().flatten().for_each(|record| self.codec.decode(record, &mut numbers));
        self.taps_of(numbers, ids.len()).map_err(failed)
    }

    /// A tensor's rank is part of its type, so the ranks have to be spelt out.
    fn taps_of(&self, numbers: Vec<f32>, samples: usize) -> Result<Taps, CacheError> {
        let shape = self.shape(samples);
        let data = TensorData::new(numbers, shape.clone());
        let mut taps = Taps::only([OUTPUT]);
        match shape.len() {
            1 => taps.insert(OUTPUT, Tensor::<1>::from_data(data, &self.device)),
            2 => taps.insert(OUTPUT, Tensor::<2>::from_data(data, &self.device)),
            3 => taps.insert(OUTPUT, Tensor::<3>::from_data(data, &self.device)),
            4 => taps.insert(OUTPUT, Tensor::<4>::from_data(data, &self.device)),
            rank => return Err(CacheError::Rank { rank }),
        }
        Ok(taps)
    }
}

impl<I, T: Teacher<I>> Teacher<I> for CachedTeacher<T> {
    fn taps(&mut self, input: &I, ids: &[usize], view: u64, wanted: &[String]) -> Result<Taps, TeacherError> {
        if !Self::serves(wanted) {
            return self.inner.taps(input, ids, view, wanted);
        }
        self.outputs(ids, view, |teacher| teacher.taps(input, ids, view, wanted))
    }

    fn differentiable(&self, input: I, wanted: &[String]) -> Result<Taps, TeacherError> {
        self.inner.differentiable(input, wanted)
    }

    fn fingerprint(&self) -> Result<String, TeacherError> {
        self.inner.fingerprint()
    }

    fn parameters(&self) -> usize {
        self.inner.parameters()
    }

    fn name(&self) -> &str {
        &self.name
    }
}
