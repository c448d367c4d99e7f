//! A dataset, split and normalised, ready for loaders.

use std::sync::Arc;

use kd_data::{
    Augment, FormUsed, ImageDataset, Images, Loader, LoaderSettings, Normalise, Opened, Search, Verified,
    open,
};
use kd_models::InputShape;

use super::error::StudyError;
use crate::recipe::DataSettings;

/// Seed of the choice of validation images: the same images for every network that is compared.
const SPLIT_SEED: u64 = 0;

/// Images in memory with a fixed split into training, validation and test, normalised by the statistics of the training split.
///
/// ```
/// use kd::experiment::Data;
/// use kd::recipe::DataSettings;
///
/// let data = Data::open(&DataSettings::new("digits"), &kd_data::Search::default())?;
/// assert_eq!(data.label(), "digits (drawn by the program)");
/// assert_eq!((data.training_images(), data.classes().len()), (10_000, 10));
/// # Ok::<(), kd::experiment::StudyError>(())
/// ```
pub struct Data {
    settings: DataSettings,
    form: FormUsed,
    images: Arc<Images>,
    train: Vec<usize>,
    validation: Vec<usize>,
    test: Arc<Images>,
    normalise: Normalise,
}

impl Data {
    /// Finds the dataset, downloads it if it is nowhere, and splits it.
    ///
    /// # Errors
    /// [`StudyError::Data`]: a dataset that is nowhere is told with where it was looked for and the command that fetches it.
    pub fn open(settings: &DataSettings, search: &Search) -> Result<Self, StudyError> {
        Self::split(settings.clone(), open(&settings.name, search)?)
    }

    /// As [`open`](Self::open), but goes on with the drawn `digits` if the dataset is nowhere, and says so in one line.
    ///
    /// # Errors
    /// As [`open`](Self::open), for files that are there but broken.
    pub fn open_or_digits(settings: &DataSettings, search: &Search) -> Result<Self, StudyError> {
        match open(&settings.name, search) {
            Err(error) if error.is_missing() => {
                let name = &settings.name;
                tracing::warn!(
                    "{name} is neither on disk nor to be downloaded (`kd data fetch {name}`): going on with digits, drawn by the program"
                );
                let digits = DataSettings { name: "digits".to_owned(), ..settings.clone() };
                Self::open(&digits, search)
            }
            opened => Self::split(settings.clone(), opened?),
        }
    }

    fn split(settings: DataSettings, opened: Opened) -> Result<Self, StudyError> {
        settings.validate()?;
        let (train, validation) =
            opened.train.hold_out(settings.validation.unwrap_or(opened.validation), SPLIT_SEED)?;
        let train = opened.train.keep(&train, settings.limit.unwrap_or(usize::MAX), SPLIT_SEED);
        let normalise = opened.train.statistics(&train)?.normalise()?;
        tracing::info!("data: {}", opened.form);
        let (images, test) = (Arc::new(opened.train), Arc::new(opened.test));
        Ok(Self { settings, form: opened.form, images, train, validation, test, normalise })
    }

    /// What tables and reports call the data: dataset and form, such as `mnist (idx)`.
    pub fn label(&self) -> String {
        match self.form.verified() {
            Verified::Drawn => format!("{} (drawn by the program)", self.form.dataset),
            _ => self.form.label(),
        }
    }

    /// The form in which the data was read, with its checksums.
    pub fn form(&self) -> &FormUsed {
        &self.form
    }

    /// Whether the program drew the images itself.
    pub fn is_drawn(&self) -> bool {
        self.form.verified() == Verified::Drawn
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &DataSettings {
        &self.settings
    }

    /// Size of every image.
    pub fn input(&self) -> InputShape {
        let shape = self.images.shape();
        InputShape::new(shape.channels, shape.height, shape.width)
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        self.images.classes()
    }

    /// Images that a network sees in an epoch.
    pub fn training_images(&self) -> usize {
        self.train.len()
    }

    /// Shuffled and augmented training batches.
    ///
    /// # Errors
    /// [`StudyError::Data`] for settings that do not fit the images.
    pub fn train(&self, seed: u64) -> Result<Loader<ImageDataset>, StudyError> {
        let settings = LoaderSettings { seed, views: self.settings.fixed_views(), ..self.loader() };
        Self::load(&self.images, &self.train, &self.normalise, &self.settings.augment, settings)
    }

    /// The validation split, as it lies.
    ///
    /// # Errors
    /// [`StudyError::Data`].
    pub fn validation(&self) -> Result<Loader<ImageDataset>, StudyError> {
        self.plain(&self.images, &self.validation)
    }

    /// The test split, as it lies.
    ///
    /// # Errors
    /// [`StudyError::Data`].
    pub fn test(&self) -> Result<Loader<ImageDataset>, StudyError> {
        let all: Vec<usize> = (0..self.test.len()).collect();
        self.plain(&self.test, &all)
    }

    fn plain(&self, images: &Arc<Images>, ids: &[usize]) -> Result<Loader<ImageDataset>, StudyError> {
        let settings = LoaderSettings { shuffle: false, ..self.loader() };
        Self::load(images, ids, &self.normalise, &Augment::default(), settings)
    }

    fn loader(&self) -> LoaderSettings {
        LoaderSettings { batch_size: self.settings.batch_size, ..LoaderSettings::default() }
    }

    fn load(
        images: &Arc<Images>,
        ids: &[usize],
        normalise: &Normalise,
        augment: &Augment,
        settings: LoaderSettings,
    ) -> Result<Loader<ImageDataset>, StudyError> {
        let dataset = ImageDataset::new(images.clone(), ids.to_vec(), normalise.clone(), augment.clone())?;
        Ok(Loader::new(Arc::new(dataset), settings)?)
    }
}
