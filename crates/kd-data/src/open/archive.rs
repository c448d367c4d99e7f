//! Opening a dataset that comes as one archive, packed or unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Splits, verify_download};
use crate::checksum::sums;
use crate::form_used::{FileUsed, Verified};
use crate::manifest::{Form, Format, Manifest};
use crate::read::cifar::{Layout, Records, records};
use crate::read::folder::{self, Expected};
use crate::read::{Bounded, open_plain_or_gzip};
use crate::{DataError, Images};

/// Reads an archive without unpacking it to disk.
pub(super) fn read_packed(manifest: &Manifest, form: &Form, path: &Path) -> Result<Splits, DataError> {
    let mut reader = open_plain_or_gzip(path)?;
    let (train, test) = match &form.format {
        Format::ImageFolder { train, test } => {
            let [train, test] = folder::archive(&mut reader, path, [train, test], &expected(manifest))?;
            (train.images, test.images)
        }
        Format::CifarBinary { label_bytes, train, test, .. } => {
            let layout = layout(manifest, *label_bytes);
            let mut members = cifar_members(&mut reader, path, layout, train, test)?;
            let mut joined = |names: &[String]| join(manifest, path, names, &mut members);
            (joined(train)?, joined(test)?)
        }
        Format::Idx { .. } | Format::Drawn => return Err(no_archive(manifest, form)),
    };
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let sums = sums(file, path, u64::MAX)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let verified = match form.file(&name) {
        Some(source) => verify_download(path, source, &sums)?,
        None => Verified::Unpublished,
    };
    Ok((train, test, vec![FileUsed { name, sha256: sums.sha256, verified }]))
}

/// Reads an archive's content from disk.
pub(super) fn read_unpacked(manifest: &Manifest, form: &Form, path: &Path) -> Result<Splits, DataError> {
    let used = |name: &str, sha256| FileUsed { name: name.into(), sha256, verified: Verified::Unpublished };
    match &form.format {
        Format::ImageFolder { train, test } => {
            let expected = expected(manifest);
            let read = |split: &str| folder::folder(&path.join(split), &expected);
            let (first, second) = (read(train)?, read(test)?);
            let files = vec![used(train, first.sha256), used(test, second.sha256)];
            Ok((first.images, second.images, files))
        }
        Format::CifarBinary { label_bytes, train, test, .. } => {
            let layout = layout(manifest, *label_bytes);
            let (mut members, mut files) = (BTreeMap::new(), Vec::new());
            for name in train.iter().chain(test) {
                let file = path.join(name);
                let open = || File::open(&file).map_err(DataError::io("read", &file));
                members.insert(name.clone(), records(&mut open()?, &file, layout)?);
                files.push(used(name, sums(open()?, &file, u64::MAX)?.sha256));
            }
            let mut joined = |names: &[String]| join(manifest, path, names, &mut members);
            Ok((joined(train)?, joined(test)?, files))
        }
        Format::Idx { .. } | Format::Drawn => Err(no_archive(manifest, form)),
    }
}

fn expected(manifest: &Manifest) -> Expected {
    let most = manifest.train.max(manifest.test);
    Expected { shape: manifest.shape, classes: Some(manifest.classes.clone()), most }
}

fn layout(manifest: &Manifest, label_bytes: usize) -> Layout {
    let most = manifest.train.max(manifest.test);
    Layout { label_bytes, shape: manifest.shape, classes: manifest.classes.len(), most }
}

fn no_archive(manifest: &Manifest, form: &Form) -> DataError {
    let message = format!("form {:?} is no archive", form.name);
    DataError::Manifest { name: manifest.name.clone(), message }
}

/// Reads the binary files that a tar stream holds, by their names without folder.
pub(super) fn cifar_members(
    reader: &mut dyn Read,
    path: &Path,
    layout: Layout,
    train: &[String],
    test: &[String],
) -> Result<BTreeMap<String, Records>, DataError> {
    let image = layout.shape.volume().saturating_add(layout.label_bytes) as u64;
    // Both splits at most, a mebibyte for headers and readme files.
    let limit = image.saturating_mul(2 * layout.most as u64).saturating_add(1 << 20);
    let failed = |source| Bounded::<&[u8]>::error(path, limit, source);
    let mut archive = tar::Archive::new(Bounded::new(reader, limit));
    let mut members = BTreeMap::new();
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let inner = entry.path().map_err(failed)?.into_owned();
        let name = inner.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if train.contains(&name) || test.contains(&name) {
            members.insert(name, records(&mut entry, &path.join(&inner), layout)?);
        }
    }
    Ok(members)
}

/// Puts the files of a split together.
fn join(
    manifest: &Manifest,
    path: &Path,
    names: &[String],
    members: &mut BTreeMap<String, Records>,
) -> Result<Images, DataError> {
    let mut whole = Records::default();
    for name in names {
        let missing = || DataError::Member { path: path.into(), member: name.clone() };
        let records = members.remove(name).ok_or_else(missing)?;
        whole.labels.extend(records.labels);
        whole.pixels.extend(records.pixels);
    }
    Images::from_file(path, manifest.shape, whole.pixels, whole.labels, manifest.classes.clone())
}
