//! What is known about a dataset before it is there: files, mirrors, checksums, shapes, classes, licence.

use serde::{Deserialize, Serialize};

use crate::checksum::Published;
use crate::{DataError, ImageShape};

/// A dataset's description, as in `datasets/<name>.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, also of the folder that holds its files.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// The publisher's page.
    pub homepage: String,
    /// The licence, or what is known of it.
    pub licence: String,
    /// Size of every image.
    pub shape: ImageShape,
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Training images to hold out for validation unless the user says otherwise.
    pub validation: usize,
    /// The names of the classes, in the order of their labels.
    pub classes: Vec<String>,
    /// The forms in which it is accepted, the preferred first.
    pub forms: Vec<Form>,
}

/// One form in which a dataset is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Name, unique in the manifest; results name it.
    pub name: String,
    /// How its files are read.
    pub format: Format,
    /// Where the checksums come from.
    #[serde(default)]
    pub checksums: String,
    /// Folders to download the files from, in order; with a slash at the end.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// The files.
    #[serde(default)]
    pub files: Vec<Source>,
}

/// How the files of a form are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Format {
    /// IDX files, packed or not.
    Idx {
        /// The files of the training split.
        train: IdxFiles,
        /// The files of the test split.
        test: IdxFiles,
    },
    /// The binary files of CIFAR, in a `.tar.gz` or unpacked.
    CifarBinary {
        /// The folder in the archive, and its name when unpacked.
        folder: String,
        /// Bytes of labels before the pixels; the last one is the class.
        label_bytes: usize,
        /// The training split's files in that folder.
        train: Vec<String>,
        /// The test split's files in that folder.
        test: Vec<String>,
    },
    /// A folder a split and in it a folder a class, in a `.tgz` or unpacked.
    ImageFolder {
        /// The training split's folder.
        train: String,
        /// The test split's folder.
        test: String,
    },
    /// Drawn by [`digits`](crate::digits).
    Drawn,
}

/// The two IDX files of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdxFiles {
    /// The file of images.
    pub images: String,
    /// The file of labels.
    pub labels: String,
}

/// A file to look for and to download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, on mirrors and on disk.
    pub path: String,
    /// The checksum that the publisher states of the download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// The checksum of the unpacked bytes: a copy packed anew is accepted by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<Published>,
}

const EMBEDDED: [&str; 5] = [
    include_str!("../../../datasets/digits.toml"),
    include_str!("../../../datasets/mnist.toml"),
    include_str!("../../../datasets/fashion-mnist.toml"),
    include_str!("../../../datasets/cifar10.toml"),
    include_str!("../../../datasets/cifar100.toml"),
];

/// The manifests that come with the program, parsed; `digits` first.
///
/// # Errors
/// [`DataError::Manifest`] names the first that is not valid; tests keep that from happening.
pub fn manifests() -> Result<Vec<Manifest>, DataError> {
    EMBEDDED.iter().map(|text| Manifest::parse("embedded", text)).collect()
}

/// The manifest of a dataset by name.
///
/// # Errors
/// [`DataError::UnknownDataset`] lists the names there are.
pub fn manifest(name: &str) -> Result<Manifest, DataError> {
    let all = manifests()?;
    let known = || all.iter().map(|manifest| manifest.name.clone()).collect();
    let found = all.iter().find(|manifest| manifest.name == name).cloned();
    found.ok_or_else(|| DataError::UnknownDataset { name: name.into(), known: known() })
}

impl Manifest {
    /// Parses and checks a manifest; `origin` is for messages.
    ///
    /// # Errors
    /// [`DataError::Manifest`] with what is wrong.
    pub fn parse(origin: &str, text: &str) -> Result<Self, DataError> {
        let wrong = |message: String| DataError::Manifest { name: origin.into(), message };
        let manifest: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let named =
            |message: String| DataError::Manifest { name: format!("{origin}, {}", manifest.name), message };
        match manifest.problem() {
            Some(message) => Err(named(message)),
            None => Ok(manifest),
        }
    }

    fn problem(&self) -> Option<String> {
        if !is_plain(&self.name) {
            return Some(format!("name = {:?} must be a plain file name", self.name));
        }
        // An image of 64 MiB and a hundred million images are beyond what is kept in memory.
        if self.shape.volume() == 0 || self.shape.volume() > 1 << 26 {
            return Some(format!(
                "shape = {:?} must have sides of 1 or more and at most 64 MiB an image",
                self.shape
            ));
        }
        if let Some(count) =
            [self.train, self.test].into_iter().find(|count| !(1..=100_000_000).contains(count))
        {
            return Some(format!("{count} images in a split; 1 to 100000000 are allowed"));
        }
        if self.validation >= self.train {
            return Some(format!("validation = {} must be below train = {}", self.validation, self.train));
        }
        if self.classes.is_empty() {
            return Some("classes is empty".into());
        }
        if self.forms.is_empty() {
            return Some("no form is listed".into());
        }
        self.forms
            .iter()
            .find_map(|form| form.problem().map(|problem| format!("form {:?}: {problem}", form.name)))
    }
}

impl Form {
    fn problem(&self) -> Option<String> {
        if let Some(mirror) =
            self.mirrors.iter().find(|mirror| !mirror.ends_with('/') || !mirror.starts_with("http"))
        {
            return Some(format!("mirror {mirror:?} must be an http(s) address with a slash at its end"));
        }
        for file in &self.files {
            if !is_plain(&file.path) {
                return Some(format!("path = {:?} must be a plain file name", file.path));
            }
            let sums = [&file.published, &file.unpacked].into_iter().flatten();
            if let Some(sum) = sums.into_iter().find(|sum| !sum.is_well_formed()) {
                return Some(format!("{:?} is no {} of {}", sum.digits(), sum.algorithm(), file.path));
            }
            if !self.mirrors.is_empty() && file.published.is_none() {
                return Some(format!("{} has mirrors but no published checksum", file.path));
            }
        }
        match &self.format {
            Format::Idx { train, test } => {
                let names = [&train.images, &train.labels, &test.images, &test.labels];
                let absent = names.into_iter().find(|name| self.file(name).is_none());
                absent.map(|name| format!("{name} is not among its files"))
            }
            Format::CifarBinary { folder, label_bytes, train, test } => {
                if !(1..=16).contains(label_bytes) {
                    return Some(format!("label_bytes = {label_bytes}; 1 to 16 are allowed"));
                }
                let odd = train.iter().chain(test).chain([folder]).find(|name| !is_plain(name));
                odd.map(|name| format!("{name:?} must be a plain file name")).or_else(|| self.one_file())
            }
            Format::ImageFolder { train, test } => {
                let odd = [train, test].into_iter().find(|name| !is_plain(name));
                odd.map(|name| format!("{name:?} must be a plain folder name")).or_else(|| self.one_file())
            }
            Format::Drawn => None,
        }
    }

    fn one_file(&self) -> Option<String> {
        (self.files.len() != 1)
            .then(|| format!("{} files are listed, but the archive is one", self.files.len()))
    }

    /// The file of this name.
    pub fn file(&self, path: &str) -> Option<&Source> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Whether a name stays in its folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_embedded_manifest_is_valid_and_found_by_its_name() {
        let names: Vec<String> = manifests().unwrap().into_iter().map(|manifest| manifest.name).collect();
        assert_eq!(names, ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]);
        for name in names {
            let found = manifest(&name).unwrap();
            assert_eq!(found.name, name);
            assert!(!found.licence.is_empty() && !found.summary.is_empty());
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let text = manifest("minst").unwrap_err().to_string();
        assert_eq!(
            text,
            "there is no dataset \"minst\"; known are digits, mnist, fashion-mnist, cifar10, cifar100"
        );
    }

    #[test]
    fn the_digits_manifest_tells_what_is_drawn() {
        let digits = manifest("digits").unwrap();
        let images = crate::digits::generate(10, 0);
        assert_eq!((digits.train, digits.test), (crate::digits::TRAIN, crate::digits::TEST));
        assert_eq!((digits.shape, &digits.classes[..]), (images.shape(), images.classes()));
    }

    const MNIST: &str = include_str!("../../../datasets/mnist.toml");

    fn refused(from: &str, to: &str) -> String {
        assert!(MNIST.contains(from), "{from}");
        let error = Manifest::parse("m.toml", &MNIST.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, DataError::Manifest { .. }));
        error.to_string()
    }

    #[test]
    fn mistakes_are_refused_with_their_value() {
        assert!(refused("\"mnist\"", "\"../mnist\"").contains("\"../mnist\" must be a plain file name"));
        assert!(refused("train = 60000", "train = 0").contains("0 images"));
        assert!(refused("validation = 5000", "validation = 60000").contains("below train = 60000"));
        assert!(refused("summary", "sumary").contains("sumary"));
        assert!(refused("f68b3c2d", "F68B").contains("is no md5 of train-images-idx3-ubyte.gz"));
        assert!(refused("amazonaws.com/mnist/", "amazonaws.com/mnist").contains("slash"));
        assert!(refused("width = 28", "width = 0").contains("sides of 1 or more"));
        assert!(refused("path = \"train-labels", "path = \"labels").contains("not among its files"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}", at in 0usize..MNIST.len()) {
            let _ = Manifest::parse("f", &text);
            let cut = (0..=at).rev().find(|&i| MNIST.is_char_boundary(i)).unwrap_or(0);
            let _ = Manifest::parse("f", &format!("{}{text}{}", &MNIST[..cut], &MNIST[cut..]));
        }
    }
}
