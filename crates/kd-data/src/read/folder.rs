//! Image folders: PNG or JPEG files in one folder a class, on disk or in a tar archive.
//!
//! ```text
//! train/<class>/<image>.png        files with other endings are passed over
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageReader};
use rayon::prelude::*;

use super::Bounded;
use crate::checksum::sha256;
use crate::{DataError, ImageShape, Images};

/// What a folder is expected to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Size of every image. Grey images are repeated for three channels, coloured ones made grey for one.
    pub shape: ImageShape,
    /// The classes, in the order of their labels; without it the folders' names in alphabetical order.
    pub classes: Option<Vec<String>>,
    /// Most images a split may hold.
    pub most: usize,
}

impl Expected {
    /// Most bytes a compressed image may have: four times its pixels, and 64 KiB for what formats put around them.
    fn largest_file(&self) -> u64 {
        (self.shape.volume() as u64).saturating_mul(4).saturating_add(1 << 16)
    }

    /// Most bytes an archive of `splits` may unpack to: the images and a kibibyte of header each.
    fn largest_archive(&self, splits: usize) -> u64 {
        let images = (self.most as u64).saturating_mul(splits as u64).saturating_add(1);
        self.largest_file().saturating_add(1024).saturating_mul(images).saturating_add(1 << 20)
    }
}

/// Images of a split, with a checksum over their names and files.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The images, ordered by class folder and file name.
    pub images: Images,
    /// SHA-256 over the line `<class>/<file> <sha256 of the file>` of each.
    pub sha256: String,
}

/// An image file that has not been decoded yet.
struct Entry {
    class: String,
    name: String,
    path: PathBuf,
    /// Absent if the file lies on disk.
    bytes: Option<Vec<u8>>,
}

/// Reads one split from a folder on disk: `folder/<class>/<image>`.
///
/// # Errors
/// [`DataError::Io`], [`DataError::Class`], [`DataError::Decode`], [`DataError::ImageSize`], [`DataError::Oversized`],
/// [`DataError::Count`] for more than `expected.most` images or none.
pub fn folder(path: &Path, expected: &Expected) -> Result<Folder, DataError> {
    let mut entries = Vec::new();
    for class in children(path)?.into_iter().filter(|child| child.is_dir()) {
        for file in children(&class)?.into_iter().filter(|file| is_image(file)) {
            entries.push(Entry { class: last(&class), name: last(&file), path: file, bytes: None });
        }
    }
    decode(path, entries, expected)
}

/// Reads several splits from an unpacked tar stream: `.../<split>/<class>/<image>`.
///
/// Nothing is written to disk. At most as many bytes are read as the expected images can take.
///
/// # Errors
/// As [`folder`]; [`DataError::Damaged`]; [`DataError::Member`] if a split has no image.
pub fn archive<const N: usize>(
    reader: &mut dyn Read,
    path: &Path,
    splits: [&str; N],
    expected: &Expected,
) -> Result<[Folder; N], DataError> {
    let limit = expected.largest_archive(N);
    let failed = |source| Bounded::<&[u8]>::error(path, limit, source);
    let mut found: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    let mut tar = tar::Archive::new(Bounded::new(reader, limit));
    for entry in tar.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.into_owned();
        let (Some(class), Some(split)) = (name.parent(), name.parent().and_then(Path::parent)) else {
            continue;
        };
        let Some(split) = splits.iter().find(|known| **known == last(split)) else { continue };
        if !entry.header().entry_type().is_file() || !is_image(&name) {
            continue;
        }
        let full = path.join(&name);
        let mut bytes = Vec::new();
        let most = expected.largest_file();
        entry.by_ref().take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
        check_length(&full, bytes.len() as u64, most)?;
        let list = found.entry(split).or_default();
        list.push(Entry { class: last(class), name: last(&name), path: full, bytes: Some(bytes) });
        check_number(path, list.len(), expected.most)?;
    }
    let mut read = Vec::new();
    for split in splits {
        let entries = found.remove(split);
        let entries = entries
            .ok_or_else(|| DataError::Member { path: path.into(), member: format!("images in {split}/") })?;
        read.push(decode(path, entries, expected)?);
    }
    let missing = |_| DataError::Member { path: path.into(), member: splits.join(", ") };
    read.try_into().map_err(missing)
}

/// Decodes all entries on all cores.
fn decode(path: &Path, mut entries: Vec<Entry>, expected: &Expected) -> Result<Folder, DataError> {
    check_number(path, entries.len(), expected.most)?;
    if entries.is_empty() {
        return Err(DataError::Count {
            path: path.into(),
            what: "images",
            found: 0,
            expected: expected.most,
        });
    }
    entries.sort_by(|a, b| (&a.class, &a.name).cmp(&(&b.class, &b.name)));
    let classes = expected.classes.clone().unwrap_or_else(|| {
        let mut names: Vec<String> = entries.iter().map(|entry| entry.class.clone()).collect();
        names.dedup();
        names
    });
    let volume = expected.shape.volume();
    let mut pixels = vec![0; entries.len() * volume];
    let read: Result<Vec<(u32, String)>, DataError> = entries
        .par_iter()
        .zip(pixels.par_chunks_exact_mut(volume))
        .map(|(entry, out)| {
            let label = classes.iter().position(|class| *class == entry.class).ok_or_else(|| {
                DataError::Class { path: path.into(), found: entry.class.clone(), known: classes.clone() }
            })?;
            let sum = decode_one(entry, expected, out)?;
            Ok((label as u32, format!("{}/{} {sum}\n", entry.class, entry.name)))
        })
        .collect();
    let (labels, lines): (Vec<u32>, String) = read?.into_iter().unzip();
    let images = Images::from_file(path, expected.shape, pixels, labels, classes)?;
    Ok(Folder { images, sha256: sha256(lines.as_bytes()) })
}

/// Decodes one image to planar pixels and returns its file's checksum.
fn decode_one(entry: &Entry, expected: &Expected, out: &mut [u8]) -> Result<String, DataError> {
    let on_disk;
    let bytes = match &entry.bytes {
        Some(bytes) => bytes,
        None => {
            let file = fs::File::open(&entry.path).map_err(DataError::io("read", &entry.path))?;
            let most = expected.largest_file();
            let mut bytes = Vec::new();
            file.take(most + 1).read_to_end(&mut bytes).map_err(DataError::io("read", &entry.path))?;
            check_length(&entry.path, bytes.len() as u64, most)?;
            on_disk = bytes;
            &on_disk
        }
    };
    let failed = |source| DataError::Decode { path: entry.path.clone(), source };
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let reader = reader.map_err(|error| failed(error.into()))?;
    let decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    // Compared before decoding: a small file may claim to be a huge image.
    super::check_size(&entry.path, (width as usize, height as usize), expected.shape)?;
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let channels = expected.shape.channels;
    let interleaved = match channels {
        1 => image.into_luma8().into_raw(),
        3 => image.into_rgb8().into_raw(),
        _ => return Err(DataError::setting("channels", channels, "1 or 3 for image folders")),
    };
    for (channel, plane) in out.chunks_exact_mut(expected.shape.area()).enumerate() {
        let values = interleaved.iter().skip(channel).step_by(channels);
        plane.iter_mut().zip(values).for_each(|(target, &value)| *target = value);
    }
    Ok(sha256(bytes))
}

fn check_length(path: &Path, length: u64, limit: u64) -> Result<(), DataError> {
    if length > limit { Err(DataError::Oversized { path: path.into(), limit }) } else { Ok(()) }
}

fn check_number(path: &Path, found: usize, most: usize) -> Result<(), DataError> {
    if found <= most {
        return Ok(());
    }
    Err(DataError::Count { path: path.into(), what: "images or more", found, expected: most })
}

fn children(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let listed = fs::read_dir(path).map_err(DataError::io("list", path))?;
    let paths: Result<Vec<_>, _> = listed.map(|child| child.map(|child| child.path())).collect();
    paths.map_err(DataError::io("list", path))
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ["png", "jpg", "jpeg"].iter().any(|known| ending == *known))
}

fn last(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
