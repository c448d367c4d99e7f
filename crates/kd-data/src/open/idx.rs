//! Opening a dataset of IDX files.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Splits, mismatch};
use crate::checksum::{Summing, sums};
use crate::form_used::{FileUsed, Verified};
use crate::manifest::{Form, Manifest};
use crate::read::{idx, open_plain_or_gzip};
use crate::{DataError, Images};

/// Reads training images and labels, test images and labels.
pub(super) fn read(manifest: &Manifest, form: &Form, paths: &[PathBuf; 4]) -> Result<Splits, DataError> {
    let mut files = Vec::new();
    let [train_images, train_labels, test_images, test_labels] = paths;
    let train = split(manifest, form, train_images, train_labels, manifest.train, &mut files)?;
    let test = split(manifest, form, test_images, test_labels, manifest.test, &mut files)?;
    Ok((train, test, files))
}

fn split(
    manifest: &Manifest,
    form: &Form,
    image_path: &Path,
    label_path: &Path,
    count: usize,
    files: &mut Vec<FileUsed>,
) -> Result<Images, DataError> {
    let mut reader = Summing::new(open_plain_or_gzip(image_path)?);
    let images = idx::images(&mut reader, image_path, Some((count, manifest.shape)))?;
    let image_sums = reader.finish();
    let mut reader = Summing::new(open_plain_or_gzip(label_path)?);
    let labels = idx::labels(&mut reader, label_path, Some(count))?;
    let label_sums = reader.finish();
    let images = idx::pair((image_path, images), (label_path, labels), manifest.classes.clone())?;
    files.push(verify(form, image_path, &image_sums)?);
    files.push(verify(form, label_path, &label_sums)?);
    Ok(images)
}

/// Accepts the publisher's file, or any packing of its bytes.
fn verify(form: &Form, path: &Path, unpacked: &crate::checksum::Sums) -> Result<FileUsed, DataError> {
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let packed = sums(file, path, u64::MAX)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The manifest's name for it has the ending that an unpacked file lacks.
    let source = form.file(&name).or_else(|| form.file(&format!("{name}.gz")));
    let (published, bytes) = source.map_or((None, None), |s| (s.published.as_ref(), s.unpacked.as_ref()));
    let is_packed = source.is_some_and(|source| source.path == name);
    let verified = match (published.filter(|_| is_packed), bytes) {
        (Some(sum), _) if sum.of(&packed) == sum.digits() => Verified::Download,
        (_, Some(sum)) if sum.of(unpacked) == sum.digits() => Verified::Unpacked,
        (_, Some(sum)) => return Err(mismatch(path, sum, unpacked)),
        (Some(sum), None) => return Err(mismatch(path, sum, &packed)),
        (None, None) => Verified::Unpublished,
    };
    Ok(FileUsed { name, sha256: packed.sha256, verified })
}
