#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{encoded, gzip, png, tar, tgz};
use image::ImageFormat;
use proptest::prelude::*;

const SHAPE: ImageShape = ImageShape { channels: 3, height: 2, width: 2 };

fn expected() -> Expected {
    Expected { shape: SHAPE, classes: Some(vec!["cat".into(), "dog".into()]), most: 3 }
}

fn read_with(bytes: &[u8], expected: &Expected) -> Result<[Folder; 2], DataError> {
    archive(&mut &bytes[..], Path::new("pets.tgz"), ["train", "test"], expected)
}

fn read(files: &[(&str, Vec<u8>)]) -> Result<[Folder; 2], DataError> {
    read_with(&tar(files), &expected())
}

fn good() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("train/dog/2.png", png(2, 2, [1, 2, 3])),
        ("train/cat/1.png", png(2, 2, [4, 5, 6])),
        ("test/dog/1.PNG", png(2, 2, [7, 8, 9])),
        ("README.md", b"pets".to_vec()),
        ("train/dog/notes.txt", b"woof".to_vec()),
    ]
}

/// The good files, the first replaced.
fn spoilt(name: &'static str, bytes: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = good();
    files[0] = (name, bytes);
    files
}

#[test]
fn images_come_planar_and_in_the_order_of_their_names() {
    let [train, test] = read(&good()).unwrap();
    assert_eq!(train.images.labels(), [0, 1]);
    assert_eq!(train.images.pixels(1), Some(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3][..]));
    assert_eq!((test.images.len(), test.images.labels()), (1, &[1][..]));
}

#[test]
fn leading_folders_do_not_matter() {
    let files: Vec<(String, Vec<u8>)> =
        good().into_iter().map(|(name, b)| (format!("pets-1.0/{name}"), b)).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, b)| (name.as_str(), b.clone())).collect();
    assert_eq!(read(&files).unwrap()[0].images, read(&good()).unwrap()[0].images);
}

#[test]
fn a_folder_on_disk_reads_as_its_archive() {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in good() {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let on_disk = folder(&root.path().join("train"), &expected()).unwrap();
    let [packed, _] = read(&good()).unwrap();
    assert_eq!((on_disk.images, on_disk.sha256), (packed.images, packed.sha256));
}

#[test]
fn classes_are_the_folders_when_none_are_given() {
    let [train, _] = read_with(&tar(&good()), &Expected { classes: None, ..expected() }).unwrap();
    assert_eq!(train.images.classes(), ["cat", "dog"]);
}

#[test]
fn jpeg_files_are_decoded_and_colours_made_grey() {
    let files = spoilt("train/dog/2.jpeg", encoded(2, 2, [90, 90, 90], ImageFormat::Jpeg));
    let grey = Expected { shape: ImageShape { channels: 1, ..SHAPE }, ..expected() };
    let [train, _] = read_with(&tar(&files), &grey).unwrap();
    assert!(train.images.pixels(1).unwrap().iter().all(|p| p.abs_diff(90) <= 2));
}

#[test]
fn an_image_of_another_size_is_refused_with_its_path_and_both_sizes() {
    let text = read(&spoilt("train/dog/2.png", png(3, 2, [0; 3]))).unwrap_err().to_string();
    assert_eq!(text, "pets.tgz/train/dog/2.png: is 3x2 pixels, but the dataset's images are 2x2");
}

#[test]
fn a_huge_image_in_a_small_file_is_refused_before_it_is_decoded() {
    let mut huge = png(2, 2, [0; 3]);
    // width and height stand big-endian at bytes 16 and 20; the checksum of the header is not reached
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let error = read(&spoilt("train/dog/2.png", huge)).unwrap_err();
    assert!(matches!(error, DataError::ImageSize { .. } | DataError::Decode { .. }), "{error}");
}

#[test]
fn an_unknown_class_is_refused_with_the_known_ones() {
    let text = read(&spoilt("train/cow/2.png", png(2, 2, [0; 3]))).unwrap_err().to_string();
    assert_eq!(text, "pets.tgz: \"cow\" is no class of this dataset; its classes are cat, dog");
}

#[test]
fn bytes_that_are_no_image_are_refused_with_their_path() {
    let error = read(&spoilt("train/dog/2.png", b"not an image".to_vec())).unwrap_err();
    assert!(
        matches!(&error, DataError::Decode { path, .. } if path == Path::new("pets.tgz/train/dog/2.png"))
    );
    let torn = png(2, 2, [0; 3])[..40].to_vec();
    assert!(matches!(read(&spoilt("train/dog/2.png", torn)), Err(DataError::Decode { .. })));
}

#[test]
fn too_many_images_or_none_are_refused() {
    let names = ["train/cat/1.png", "train/cat/2.png", "train/cat/3.png", "train/cat/4.png"];
    let files: Vec<_> = names.iter().map(|name| (*name, png(2, 2, [0; 3]))).collect();
    assert!(matches!(read(&files), Err(DataError::Count { found: 4, expected: 3, .. })));
    let text = read(&good()[..2]).unwrap_err().to_string();
    assert_eq!(text, "pets.tgz: holds no images in test/");
}

#[test]
fn an_image_file_beyond_all_measure_is_refused() {
    let error = read(&spoilt("train/dog/2.png", vec![0; 100_000])).unwrap_err();
    assert!(matches!(error, DataError::Oversized { limit: 65_584, .. }), "{error}");
}

#[test]
fn a_gzip_bomb_is_stopped_at_what_the_images_could_take() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bomb.tgz");
    fs::write(&path, tgz(&spoilt("train/dog/zeros.bin", vec![0; 64 << 20]))).unwrap();
    let mut reader = super::super::open_plain_or_gzip(&path).unwrap();
    let error = archive(&mut reader, &path, ["train", "test"], &expected()).unwrap_err();
    let limit = expected().largest_archive(2);
    assert!(limit < 2 << 20);
    assert!(
        matches!(&error, DataError::Oversized { path: p, limit: l } if *p == path && *l == limit),
        "{error}"
    );
}

#[test]
fn a_torn_archive_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("torn.tgz");
    let whole = gzip(&tar(&good()), 6);
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let mut reader = super::super::open_plain_or_gzip(&path).unwrap();
    let error = archive(&mut reader, &path, ["train", "test"], &expected()).unwrap_err();
    assert!(matches!(&error, DataError::Damaged { path: p, .. } if *p == path), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500), at in 0usize..4000) {
        let _ = read_with(&bytes, &expected());
        let mut archive = tar(&good());
        for (target, byte) in archive.iter_mut().skip(at).zip(bytes) {
            *target ^= byte;
        }
        let _ = read_with(&archive, &expected());
    }
}
