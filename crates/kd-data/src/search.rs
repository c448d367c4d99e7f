//! Where datasets are looked for.

use std::path::{Path, PathBuf};

use crate::manifest::{Form, Format, Manifest};

/// Where a dataset is looked for, in this order: `data_dir`, `env_dir`, `cache_dir`, then the network.
///
/// A dataset's files lie in a folder of its name: `<dir>/mnist/train-images-idx3-ubyte.gz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The folder the user named (`--data-dir`); downloads go there if it is given.
    pub data_dir: Option<PathBuf>,
    /// `$KD_DATA_DIR` by default.
    pub env_dir: Option<PathBuf>,
    /// `kd` in the user's cache folder by default; downloads go there otherwise.
    pub cache_dir: Option<PathBuf>,
    /// Whether to download what is not there; true by default.
    pub download: bool,
    /// Whether to draw a progress bar to standard error if that is a terminal; false by default.
    pub progress: bool,
}

impl Default for Search {
    fn default() -> Self {
        let env_dir = std::env::var_os("KD_DATA_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let cache_dir = dirs::cache_dir().map(|dir| dir.join("kd"));
        Self { data_dir: None, env_dir, cache_dir, download: true, progress: false }
    }
}

impl Search {
    /// The folders there are, in the order in which they are searched.
    pub fn folders(&self) -> Vec<&Path> {
        [&self.data_dir, &self.env_dir, &self.cache_dir].into_iter().flatten().map(PathBuf::as_path).collect()
    }

    /// The folder that downloads go to, if there is one.
    pub fn download_folder(&self) -> Option<&Path> {
        self.data_dir.as_deref().or(self.cache_dir.as_deref()).or(self.env_dir.as_deref())
    }

    /// The first form of the dataset that is on disk.
    pub(crate) fn locate<'a>(&self, manifest: &'a Manifest) -> Option<Located<'a>> {
        let folders = self.folders().into_iter().map(|folder| folder.join(&manifest.name));
        folders.into_iter().find_map(|folder| {
            manifest.forms.iter().find_map(|form| {
                let files = files_of(form, &folder)?;
                Some(Located { form, folder: folder.clone(), files })
            })
        })
    }

    /// What [`Search::locate`] looks for, for a message.
    pub(crate) fn looked_for(&self, manifest: &Manifest) -> Vec<String> {
        let folders = self.folders().into_iter().map(|folder| folder.join(&manifest.name));
        folders
            .flat_map(|folder| {
                manifest.forms.iter().map(move |form| {
                    let names: Vec<&str> = form.files.iter().map(|file| file.path.as_str()).collect();
                    format!("{} ({}): {}", folder.display(), form.name, names.join(", "))
                })
            })
            .collect()
    }
}

/// A form found on disk.
#[derive(Clone, Debug)]
pub(crate) struct Located<'a> {
    pub form: &'a Form,
    /// The dataset's folder.
    pub folder: PathBuf,
    pub files: Files,
}

/// The paths of a form's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// Training images and labels, test images and labels; packed or not.
    Idx([PathBuf; 4]),
    /// One archive.
    Archive(PathBuf),
    /// The archive's content, unpacked in this folder.
    Unpacked(PathBuf),
    /// Nothing on disk.
    Drawn,
}

fn files_of(form: &Form, folder: &Path) -> Option<Files> {
    let archive = || form.files.first().map(|file| folder.join(&file.path)).filter(|path| path.is_file());
    match &form.format {
        Format::Drawn => Some(Files::Drawn),
        Format::Idx { train, test } => {
            let found = |name: &str| {
                let unpacked = name.strip_suffix(".gz").unwrap_or(name);
                [folder.join(name), folder.join(unpacked)].into_iter().find(|path| path.is_file())
            };
            let names = [&train.images, &train.labels, &test.images, &test.labels];
            let paths: Option<Vec<PathBuf>> = names.into_iter().map(|name| found(name)).collect();
            paths?.try_into().ok().map(Files::Idx)
        }
        Format::CifarBinary { folder: inner, train, test, .. } => {
            archive().map(Files::Archive).or_else(|| {
                let inner = folder.join(inner);
                let whole = train.iter().chain(test).all(|name| inner.join(name).is_file());
                whole.then_some(Files::Unpacked(inner))
            })
        }
        Format::ImageFolder { train, test } => archive().map(Files::Archive).or_else(|| {
            let whole = [train, test].into_iter().all(|split| folder.join(split).is_dir());
            whole.then(|| Files::Unpacked(folder.to_path_buf()))
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::manifest::manifest;
    use std::fs;

    fn search(data: &Path, env: &Path, cache: &Path) -> Search {
        let some = |path: &Path| Some(path.to_path_buf());
        Search {
            data_dir: some(data),
            env_dir: some(env),
            cache_dir: some(cache),
            download: false,
            progress: false,
        }
    }

    fn put(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }

    #[test]
    fn data_dir_comes_before_the_variable_and_that_before_the_cache() {
        let root = tempfile::tempdir().unwrap();
        let [data, env, cache] = ["data", "env", "cache"].map(|name| root.path().join(name));
        let search = search(&data, &env, &cache);
        let manifest = manifest("cifar10").unwrap();
        assert!(search.locate(&manifest).is_none());
        for folder in [&cache, &env, &data] {
            put(folder.join("cifar10/cifar10.tgz"));
            assert_eq!(search.locate(&manifest).unwrap().folder, folder.join("cifar10"));
        }
        // a preferred form in a later folder does not win
        put(cache.join("cifar10/cifar-10-binary.tar.gz"));
        assert_eq!(search.locate(&manifest).unwrap().form.name, "image-folder");
        put(data.join("cifar10/cifar-10-binary.tar.gz"));
        assert_eq!(search.locate(&manifest).unwrap().form.name, "binary");
    }

    #[test]
    fn idx_files_may_be_unpacked_but_all_four_must_be_there() {
        let root = tempfile::tempdir().unwrap();
        let search =
            Search { data_dir: None, env_dir: None, ..search(root.path(), root.path(), root.path()) };
        let manifest = manifest("mnist").unwrap();
        let folder = root.path().join("mnist");
        let names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"];
        names.iter().for_each(|name| put(folder.join(name)));
        assert!(search.locate(&manifest).is_none());
        put(folder.join("t10k-labels-idx1-ubyte.gz"));
        let Files::Idx(paths) = search.locate(&manifest).unwrap().files else { unreachable!() };
        assert_eq!(paths[0], folder.join("train-images-idx3-ubyte"));
        assert_eq!(paths[1], folder.join("train-labels-idx1-ubyte.gz"));
    }

    #[test]
    fn unpacked_archives_are_found() {
        let root = tempfile::tempdir().unwrap();
        let search = search(root.path(), root.path(), root.path());
        let cifar100 = manifest("cifar100").unwrap();
        put(root.path().join("cifar100/cifar-100-binary/train.bin"));
        assert!(search.locate(&cifar100).is_none());
        put(root.path().join("cifar100/cifar-100-binary/test.bin"));
        let inner = root.path().join("cifar100/cifar-100-binary");
        assert_eq!(search.locate(&cifar100).unwrap().files, Files::Unpacked(inner));
        put(root.path().join("cifar10/train/cat/1.png"));
        put(root.path().join("cifar10/test/cat/1.png"));
        let cifar10 = manifest("cifar10").unwrap();
        assert_eq!(search.locate(&cifar10).unwrap().files, Files::Unpacked(root.path().join("cifar10")));
    }
}
