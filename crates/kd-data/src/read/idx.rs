//! The IDX format of MNIST (LeCun, <http://yann.lecun.com/exdb/mnist/>).
//!
//! ```text
//! images: 0x00000803, count, rows, columns, then one byte a pixel
//! labels: 0x00000801, count, then one byte a label     (all numbers 32 bits, big-endian)
//! ```

use std::io::Read;
use std::path::Path;

use super::{read_bounded, read_up_to};
use crate::{DataError, ImageShape, Images};

/// The most bytes that a file of unknown size may hold: 4 GiB.
const MOST: u64 = 4 << 30;

/// Pixels of an IDX file of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images.
    pub count: usize,
    /// Size of each, with one channel.
    pub shape: ImageShape,
    /// One byte a pixel.
    pub pixels: Vec<u8>,
}

/// Reads images from unpacked bytes; `path` is for messages, `expected` the number and size that a manifest prescribes.
///
/// # Errors
/// [`DataError::Magic`], [`DataError::Truncated`], [`DataError::Oversized`] (more bytes than the header announces, or more
/// than 4 GiB), [`DataError::Damaged`]; [`DataError::Count`] and [`DataError::ImageSize`] if the header is not as expected.
///
/// # Example
/// ```
/// use kd_data::read::idx;
/// let file = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20];
/// let images = idx::images(&mut &file[..], "tiny".as_ref(), None).unwrap();
/// assert_eq!((images.count, images.pixels), (1, vec![10, 20]));
/// ```
pub fn images(
    reader: &mut dyn Read,
    path: &Path,
    expected: Option<(usize, ImageShape)>,
) -> Result<IdxImages, DataError> {
    let [count, height, width] = header(reader, path, 0x0803, "IDX images of bytes")?;
    let shape = ImageShape { channels: 1, height: height as usize, width: width as usize };
    if let Some((number, size)) = expected {
        check_count(path, "images", count, number)?;
        super::check_size(path, (shape.width, shape.height), size)?;
    }
    let pixels = body(reader, path, &[count, height, width], 16)?;
    Ok(IdxImages { count: count as usize, shape, pixels })
}

/// Reads labels from unpacked bytes; `path` is for messages, `expected` the number that a manifest prescribes.
///
/// # Errors
/// As [`images`].
pub fn labels(reader: &mut dyn Read, path: &Path, expected: Option<usize>) -> Result<Vec<u8>, DataError> {
    let [count] = header(reader, path, 0x0801, "IDX labels of bytes")?;
    if let Some(number) = expected {
        check_count(path, "labels", count, number)?;
    }
    body(reader, path, &[count], 8)
}

/// Puts a file of images and a file of labels together.
///
/// # Errors
/// [`DataError::Count`] if they differ in number; those of [`Images::new`].
pub fn pair(
    (image_path, images): (&Path, IdxImages),
    (label_path, labels): (&Path, Vec<u8>),
    classes: Vec<String>,
) -> Result<Images, DataError> {
    if labels.len() != images.count {
        let (found, expected) = (labels.len(), images.count);
        return Err(DataError::Count { path: label_path.into(), what: "labels", found, expected });
    }
    let labels: Vec<u32> = labels.into_iter().map(u32::from).collect();
    if let Some((index, &label)) =
        labels.iter().enumerate().find(|(_, label)| **label as usize >= classes.len())
    {
        return Err(DataError::Label { path: label_path.into(), index, label, classes: classes.len() });
    }
    Images::from_file(image_path, images.shape, images.pixels, labels, classes)
}

fn check_count(path: &Path, what: &'static str, found: u32, expected: usize) -> Result<(), DataError> {
    let found = found as usize;
    if found == expected {
        Ok(())
    } else {
        Err(DataError::Count { path: path.into(), what, found, expected })
    }
}

/// Reads the magic number and `N` sizes.
fn header<const N: usize>(
    reader: &mut dyn Read,
    path: &Path,
    expected: u32,
    meaning: &'static str,
) -> Result<[u32; N], DataError> {
    let mut bytes = [0; 16];
    let head = bytes.get_mut(..4 + 4 * N).unwrap_or_default();
    let got = read_up_to(reader, head).map_err(|source| super::damaged(path, source))?;
    let mut words = head.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
    let magic = words.next().unwrap_or_default();
    if got >= 4 && magic != expected {
        return Err(DataError::Magic { path: path.into(), found: magic, expected, meaning });
    }
    if got < 4 + 4 * N {
        return Err(DataError::Truncated {
            path: path.into(),
            expected: 4 + 4 * N as u64,
            found: got as u64,
        });
    }
    Ok(std::array::from_fn(|_| words.next().unwrap_or_default()))
}

/// Reads as many bytes as the sizes multiply to, and no more.
fn body(reader: &mut dyn Read, path: &Path, sizes: &[u32], head: u64) -> Result<Vec<u8>, DataError> {
    let size = sizes.iter().try_fold(1u64, |size, &side| size.checked_mul(u64::from(side)));
    let size =
        size.filter(|size| *size <= MOST).ok_or(DataError::Oversized { path: path.into(), limit: MOST })?;
    let bytes = match read_bounded(reader, path, size) {
        Err(DataError::Oversized { path, .. }) => {
            return Err(DataError::Oversized { path, limit: head + size });
        }
        read => read?,
    };
    if (bytes.len() as u64) < size {
        let (expected, found) = (head + size, head + bytes.len() as u64);
        return Err(DataError::Truncated { path: path.into(), expected, found });
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(magic: u32, sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(body);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<IdxImages, DataError> {
        images(&mut &bytes[..], Path::new("train.idx"), None)
    }

    #[test]
    fn images_and_labels_are_read_as_written() {
        let images = read(&file(0x803, &[2, 1, 3], &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!((images.count, images.shape.height, images.shape.width), (2, 1, 3));
        assert_eq!(images.pixels, [1, 2, 3, 4, 5, 6]);
        assert_eq!(labels(&mut &file(0x801, &[2], &[7, 8])[..], Path::new("l"), None).unwrap(), [7, 8]);
    }

    #[test]
    fn a_wrong_magic_number_is_shown() {
        let error = read(&file(0x801, &[2], &[7, 8])).unwrap_err();
        assert!(matches!(error, DataError::Magic { found: 0x801, expected: 0x803, .. }));
        assert_eq!(
            error.to_string(),
            "train.idx: starts with 0x00000801, but 0x00000803 (IDX images of bytes) was expected"
        );
    }

    #[test]
    fn truncation_is_shown_with_both_sizes() {
        let whole = file(0x803, &[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        for (cut, expected) in [(21, 22), (16, 22), (15, 16), (3, 16), (0, 16)] {
            let error = read(&whole[..cut]).unwrap_err();
            let matched = matches!(&error, DataError::Truncated { path, expected: e, found }
                if path == Path::new("train.idx") && *e == expected && *found == cut as u64);
            assert!(matched, "{cut}: {error}");
        }
    }

    #[test]
    fn more_bytes_than_announced_are_refused() {
        let error = read(&file(0x803, &[1, 1, 3], &[1, 2, 3, 4])).unwrap_err();
        assert!(matches!(error, DataError::Oversized { limit: 19, .. }), "{error}");
    }

    #[test]
    fn a_header_that_claims_exabytes_allocates_nothing() {
        let error = read(&file(0x803, &[u32::MAX; 3], &[])).unwrap_err();
        assert!(matches!(error, DataError::Oversized { limit: MOST, .. }), "{error}");
        let error = read(&file(0x803, &[1 << 20, 64, 64], &[9])).unwrap_err();
        assert!(matches!(error, DataError::Truncated { found: 17, .. }), "{error}");
    }

    #[test]
    fn a_gzip_bomb_is_stopped_at_the_announced_size() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.gz");
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&file(0x803, &[1, 28, 28], &[])).unwrap();
        (0..64).for_each(|_| bomb.write_all(&vec![0; 1 << 20]).unwrap());
        std::fs::write(&path, bomb.finish().unwrap()).unwrap();
        let error = images(&mut super::super::open_plain_or_gzip(&path).unwrap(), &path, None).unwrap_err();
        assert!(matches!(&error, DataError::Oversized { path: p, limit: 800 } if *p == path), "{error}");
    }

    #[test]
    fn a_damaged_gzip_stream_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torn.gz");
        std::fs::write(&path, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]).unwrap();
        let error = images(&mut super::super::open_plain_or_gzip(&path).unwrap(), &path, None).unwrap_err();
        assert!(matches!(&error, DataError::Damaged { path: p, .. } if *p == path), "{error}");
    }

    #[test]
    fn labels_must_match_images_in_number_and_range() {
        let paired = |labels: Vec<u8>| {
            let images = read(&file(0x803, &[2, 1, 1], &[1, 2])).unwrap();
            let classes = vec!["a".to_string(), "b".to_string()];
            pair((Path::new("i"), images), (Path::new("l"), labels), classes)
        };
        assert_eq!(paired(vec![1, 0]).unwrap().labels(), [1, 0]);
        assert_eq!(paired(vec![1]).unwrap_err().to_string(), "l: 1 labels, but 2 were expected");
        assert_eq!(
            paired(vec![1, 9]).unwrap_err().to_string(),
            "l: sample 1 has label 9, but labels go from 0 to 1"
        );
    }

    #[test]
    fn number_and_size_are_compared_before_the_body_is_read() {
        let header = file(0x803, &[2, 1, 3], &[]);
        let read = |count, height| {
            let shape = ImageShape { channels: 1, height, width: 3 };
            images(&mut &header[..], Path::new("i"), Some((count, shape))).unwrap_err().to_string()
        };
        assert_eq!(read(5, 1), "i: 2 images, but 5 were expected");
        assert_eq!(read(2, 3), "i: is 3x1 pixels, but the dataset's images are 3x3");
        assert!(labels(&mut &file(0x801, &[9], &[])[..], Path::new("l"), Some(8)).is_err());
    }

    proptest! {
        #[test]
        fn any_images_survive_the_round_trip(rows in 0u32..5, columns in 0u32..5, pixels in prop::collection::vec(any::<u8>(), 0..50)) {
            let count = pixels.len() as u32 / (rows * columns).max(1);
            let body = &pixels[..(count * rows * columns) as usize];
            prop_assert_eq!(&read(&file(0x803, &[count, rows, columns], body)).unwrap().pixels[..], body);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), magic in prop::bool::ANY) {
            let bytes = if magic { [&[0, 0, 8, 3][..], &bytes].concat() } else { bytes };
            let _ = read(&bytes);
            let _ = labels(&mut &bytes[..], Path::new("l"), None);
        }
    }
}
