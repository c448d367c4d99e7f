//! Batches in a reproducible order, assembled ahead of their use.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, bounded};
use serde::{Deserialize, Serialize};

use crate::seed::{Purpose, Stream};
use crate::{DataError, Dataset, Pass};

/// How a [`Loader`] cuts a dataset into batches.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `batch_size` | 128 | samples a batch | >= 1 |
/// | `shuffle` | true | a new order every epoch | |
/// | `drop_last` | false | leave out a last batch that is not full | |
/// | `seed` | 0 | order and augmentation | |
/// | `prefetch` | 4 | batches that wait, assembled | 0 ..= 1024 |
/// | `views` | none | epochs cycle through this many fixed augmentations | >= 1 |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderSettings {
    /// Samples a batch.
    pub batch_size: usize,
    /// Whether every epoch has an order of its own; otherwise samples come as they lie.
    pub shuffle: bool,
    /// Whether a last batch that is not full is left out.
    pub drop_last: bool,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Batches that wait assembled; memory for throughput.
    pub prefetch: usize,
    /// Number of fixed augmented views through which epochs cycle; without it every epoch has its own.
    pub views: Option<u64>,
}

impl Default for LoaderSettings {
    fn default() -> Self {
        Self { batch_size: 128, shuffle: true, drop_last: false, seed: 0, prefetch: 4, views: None }
    }
}

impl LoaderSettings {
    /// Checks the ranges of the table above.
    ///
    /// # Errors
    /// [`DataError::Setting`] names the setting, its value and the allowed range.
    pub fn validate(&self) -> Result<(), DataError> {
        if self.batch_size == 0 {
            return Err(DataError::setting("batch_size", 0, "1 or more"));
        }
        if self.prefetch > 1024 {
            return Err(DataError::setting("prefetch", self.prefetch, "0 to 1024"));
        }
        if self.views == Some(0) {
            return Err(DataError::setting("views", 0, "1 or more, or leave it out"));
        }
        Ok(())
    }
}

/// Iterates over a dataset, epoch by epoch.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use kd_data::{Augment, ImageDataset, Loader, LoaderSettings, digits};
///
/// # fn main() -> Result<(), kd_data::DataError> {
/// let images = Arc::new(digits::generate(100, 0));
/// let all: Vec<usize> = (0..images.len()).collect();
/// let normalise = images.statistics(&all)?.normalise()?;
/// let dataset = Arc::new(ImageDataset::new(images, all, normalise, Augment::default())?);
/// let loader = Loader::new(dataset, LoaderSettings { batch_size: 32, ..Default::default() })?;
/// for loaded in loader.epoch(0, 0) {
///     let batch = loaded?.batch;
///     assert_eq!(batch.shape[1..], [1, 28, 28]);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Loader<D: Dataset> {
    dataset: Arc<D>,
    settings: LoaderSettings,
}

impl<D: Dataset> Loader<D> {
    /// A loader of `dataset`.
    ///
    /// # Errors
    /// [`DataError::Setting`] if a setting is out of range, or if no batch would come out.
    pub fn new(dataset: Arc<D>, settings: LoaderSettings) -> Result<Self, DataError> {
        settings.validate()?;
        let loader = Self { dataset, settings };
        if loader.batches() == 0 {
            let len = loader.dataset.len();
            let size = loader.settings.batch_size;
            return Err(DataError::setting("batch_size", size, format!("a size that {len} samples fill")));
        }
        Ok(loader)
    }

    /// Number of batches in an epoch.
    pub fn batches(&self) -> usize {
        let (len, size) = (self.dataset.len(), self.settings.batch_size);
        if self.settings.drop_last { len / size } else { len.div_ceil(size) }
    }

    /// The dataset.
    pub fn dataset(&self) -> &Arc<D> {
        &self.dataset
    }

    /// The settings.
    pub fn settings(&self) -> &LoaderSettings {
        &self.settings
    }

    /// The view that `epoch` sees: the epoch itself, or `epoch mod views`.
    pub fn pass(&self, epoch: u64) -> Pass {
        let view = self.settings.views.map_or(epoch, |views| epoch % views);
        Pass { seed: self.settings.seed, view }
    }

    /// The samples of `epoch` in their order, a function of (seed, epoch) only.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if self.settings.shuffle {
            Stream::new(&[Purpose::Order as u64, self.settings.seed, epoch]).shuffle(&mut order);
        }
        order.truncate(self.batches() * self.settings.batch_size);
        order
    }

    /// The batches of `epoch` but for the first `skip`, which a resumed run has already seen.
    ///
    /// A background thread assembles up to `prefetch` batches ahead; it stops when the iterator is dropped. After an
    /// error the iterator ends.
    pub fn epoch(&self, epoch: u64, skip: usize) -> Epoch<D::Batch> {
        let (sender, receiver) = bounded(self.settings.prefetch);
        let (dataset, pass, order) = (self.dataset.clone(), self.pass(epoch), self.order(epoch));
        let size = self.settings.batch_size;
        let remaining = self.batches().saturating_sub(skip);
        let assemble = move || {
            for ids in order.chunks(size).skip(skip) {
                let loaded = dataset.batch(ids, pass).map(|batch| Loaded { ids: ids.to_vec(), batch });
                let failed = loaded.is_err();
                // The receiver is gone when the iterator was dropped: nobody waits for the rest.
                if sender.send(loaded).is_err() || failed {
                    return;
                }
            }
        };
        let worker = thread::Builder::new().name("kd-data loader".into()).spawn(assemble);
        Epoch { receiver: Some(receiver), worker: Some(worker), remaining }
    }
}

/// One batch and the positions of its samples in the dataset.
#[derive(Clone, Debug)]
pub struct Loaded<B> {
    /// Positions in `0..len`, in the batch's order.
    pub ids: Vec<usize>,
    /// The assembled samples.
    pub batch: B,
}

/// The batches of one epoch; made by [`Loader::epoch`].
pub struct Epoch<B> {
    receiver: Option<Receiver<Result<Loaded<B>, DataError>>>,
    worker: Option<std::io::Result<JoinHandle<()>>>,
    remaining: usize,
}

impl<B> Epoch<B> {
    fn close(&mut self) -> Option<String> {
        self.receiver = None;
        match self.worker.take()? {
            Err(error) => Some(error.to_string()),
            Ok(handle) => handle.join().err().map(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                    .unwrap_or_else(|| "it panicked".into())
            }),
        }
    }
}

impl<B> Iterator for Epoch<B> {
    type Item = Result<Loaded<B>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let received = self.receiver.as_ref().map(Receiver::recv);
        if let Some(Ok(loaded)) = received {
            self.remaining = if loaded.is_ok() { self.remaining - 1 } else { 0 };
            return Some(loaded);
        }
        self.remaining = 0;
        let message = self.close().unwrap_or_else(|| "it ended early".into());
        Some(Err(DataError::Worker { message }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining))
    }
}

impl<B> Drop for Epoch<B> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Batches are the ids and the pass; a chosen id fails or panics.
    #[derive(Default)]
    struct Echo {
        len: usize,
        fails: Option<usize>,
        panics: Option<usize>,
        assembled: AtomicUsize,
    }

    impl Dataset for Echo {
        type Batch = (Vec<usize>, Pass);

        fn len(&self) -> usize {
            self.len
        }

        fn batch(&self, ids: &[usize], pass: Pass) -> Result<Self::Batch, DataError> {
            self.assembled.fetch_add(1, Ordering::SeqCst);
            if self.panics.is_some_and(|id| ids.contains(&id)) {
                panic!("sample is cursed");
            }
            match self.fails.filter(|id| ids.contains(id)) {
                Some(index) => Err(DataError::Index { index, len: self.len }),
                None => Ok((ids.to_vec(), pass)),
            }
        }
    }

    fn loader(dataset: Echo, settings: LoaderSettings) -> Loader<Echo> {
        Loader::new(Arc::new(dataset), settings).unwrap()
    }

    fn ten(settings: LoaderSettings) -> Loader<Echo> {
        loader(Echo { len: 10, ..Default::default() }, settings)
    }

    fn settings() -> LoaderSettings {
        LoaderSettings { batch_size: 3, seed: 5, ..Default::default() }
    }

    fn ids(loader: &Loader<Echo>, epoch: u64, skip: usize) -> Vec<Vec<usize>> {
        loader.epoch(epoch, skip).map(|loaded| loaded.unwrap().ids).collect()
    }

    #[test]
    fn every_sample_comes_once_an_epoch() {
        let loader = ten(settings());
        let batches = ids(&loader, 0, 0);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 1]);
        let mut all = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn order_is_a_function_of_seed_and_epoch() {
        let loader = ten(settings());
        assert_eq!(ids(&loader, 3, 0), ids(&ten(settings()), 3, 0));
        assert_ne!(ids(&loader, 3, 0), ids(&loader, 4, 0));
        assert_ne!(ids(&loader, 3, 0), ids(&ten(LoaderSettings { seed: 6, ..settings() }), 3, 0));
    }

    #[test]
    fn a_resumed_epoch_is_the_rest_of_the_whole_one() {
        let loader = ten(settings());
        assert_eq!(ids(&loader, 1, 2), ids(&loader, 1, 0)[2..]);
        assert!(ids(&loader, 1, 4).is_empty());
        assert!(ids(&loader, 1, 99).is_empty());
    }

    #[test]
    fn drop_last_leaves_out_the_rest() {
        let loader = ten(LoaderSettings { drop_last: true, shuffle: false, ..settings() });
        assert_eq!(ids(&loader, 0, 0), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]);
        assert_eq!(loader.batches(), 3);
    }

    #[test]
    fn epochs_cycle_through_views_but_not_through_orders() {
        let loader = ten(LoaderSettings { views: Some(2), ..settings() });
        let view = |epoch| loader.epoch(epoch, 0).next().unwrap().unwrap().batch.1.view;
        assert_eq!([view(0), view(1), view(2), view(5)], [0, 1, 0, 1]);
        assert_ne!(ids(&loader, 0, 0), ids(&loader, 2, 0));
    }

    #[test]
    fn dropping_the_iterator_stops_the_thread() {
        let loader =
            loader(Echo { len: 1000, ..Default::default() }, LoaderSettings { prefetch: 2, ..settings() });
        let mut epoch = loader.epoch(0, 0);
        epoch.next().unwrap().unwrap();
        drop(epoch);
        assert_eq!(Arc::strong_count(loader.dataset()), 1, "the thread still holds the dataset");
        assert!(loader.dataset().assembled.load(Ordering::SeqCst) <= 5);
    }

    #[test]
    fn an_error_is_passed_on_and_ends_the_epoch() {
        let loader = loader(
            Echo { len: 10, fails: Some(4), ..Default::default() },
            LoaderSettings { shuffle: false, ..settings() },
        );
        let results: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(results.len(), 2);
        assert!(matches!(results[1], Err(DataError::Index { index: 4, len: 10 })));
    }

    #[test]
    fn a_panic_in_the_thread_is_an_error_not_a_short_epoch() {
        let loader = loader(
            Echo { len: 10, panics: Some(0), ..Default::default() },
            LoaderSettings { shuffle: false, ..settings() },
        );
        let results: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(results.len(), 1);
        assert!(matches!(&results[0], Err(DataError::Worker { message }) if message == "sample is cursed"));
    }

    #[test]
    fn settings_out_of_range_are_refused_with_key_value_and_range() {
        let message = |settings, len| {
            let made = Loader::new(Arc::new(Echo { len, ..Default::default() }), settings);
            made.err().unwrap().to_string()
        };
        assert_eq!(
            message(LoaderSettings { batch_size: 0, ..settings() }, 10),
            "batch_size = 0 is not allowed; use 1 or more"
        );
        assert!(message(LoaderSettings { views: Some(0), ..settings() }, 10).starts_with("views = 0"));
        assert!(message(LoaderSettings { prefetch: 2000, ..settings() }, 10).contains("0 to 1024"));
        assert!(
            message(LoaderSettings { batch_size: 11, drop_last: true, ..settings() }, 10)
                .contains("10 samples")
        );
        assert!(message(settings(), 0).contains("0 samples"));
    }
}
