//! What the tests of several modules share: small files in every format.
#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::checksum::sums;
use crate::{Manifest, Search};

pub(crate) fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(level));
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

pub(crate) fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn tgz(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    gzip(&tar(files), 6)
}

/// A PNG file of one colour.
pub(crate) fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    encoded(width, height, colour, image::ImageFormat::Png)
}

pub(crate) fn encoded(width: u32, height: u32, colour: [u8; 3], format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(width, height, image::Rgb(colour)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn md5(bytes: &[u8]) -> String {
    sums(bytes, Path::new("test"), u64::MAX).unwrap().md5
}

/// The four IDX files of two training images and one test image of 2×2 pixels.
pub(crate) fn idx_files() -> [(&'static str, Vec<u8>); 4] {
    let images = |n: u8| {
        [&[0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 2, 0, 0, 0, 2][..], &vec![n; 4 * usize::from(n)]].concat()
    };
    let labels = |n: u8| [&[0, 0, 8, 1, 0, 0, 0, n][..], &vec![1; n.into()]].concat();
    [("train-x.gz", images(2)), ("train-y.gz", labels(2)), ("test-x.gz", images(1)), ("test-y.gz", labels(1))]
}

/// A manifest of the form of [`idx_files`], packed at level 6.
pub(crate) fn idx_manifest(mirrors: &[String], with_unpacked: bool) -> Manifest {
    let files: String = idx_files()
        .iter()
        .map(|(name, bytes)| {
            let unpacked = if with_unpacked {
                format!("unpacked = {{ md5 = {:?} }}\n", md5(bytes))
            } else {
                String::new()
            };
            let published = md5(&gzip(bytes, 6));
            format!("[[forms.files]]\npath = {name:?}\npublished = {{ md5 = {published:?} }}\n{unpacked}")
        })
        .collect();
    let form = format!(
        "[[forms]]\nname = \"idx\"\nmirrors = {mirrors:?}\n[forms.format]\nkind = \"idx\"\n\
         train = {{ images = \"train-x.gz\", labels = \"train-y.gz\" }}\n\
         test = {{ images = \"test-x.gz\", labels = \"test-y.gz\" }}\n{files}"
    );
    manifest(1, (2, 1), &form)
}

/// A manifest of 2×2 pixels and the classes cat and dog.
pub(crate) fn manifest(channels: usize, (train, test): (usize, usize), form: &str) -> Manifest {
    let head = format!(
        "name = \"tiny\"\nsummary = \"\"\nhomepage = \"\"\nlicence = \"\"\ntrain = {train}\ntest = {test}\nvalidation = 0\n\
         shape = {{ channels = {channels}, height = 2, width = 2 }}\nclasses = [\"cat\", \"dog\"]\n"
    );
    Manifest::parse("test", &(head + form)).unwrap()
}

/// Looks only in `folder`, offline.
pub(crate) fn only(folder: &Path) -> Search {
    let data_dir = Some(folder.to_path_buf());
    Search { data_dir, env_dir: None, cache_dir: None, download: false, progress: false }
}
