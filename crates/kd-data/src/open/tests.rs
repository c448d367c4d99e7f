#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::testing::{gzip, idx_files, idx_manifest, manifest as tiny, md5, only, png, tgz};

/// Writes files to `<root>/tiny`.
fn put(root: &Path, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let folder = root.join("tiny");
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn packed(level: u32) -> Vec<(&'static str, Vec<u8>)> {
    idx_files().into_iter().map(|(name, bytes)| (name, gzip(&bytes, level))).collect()
}

fn open_idx(files: &[(&str, Vec<u8>)], with_unpacked: bool) -> Result<Opened, DataError> {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), files);
    open_manifest(&idx_manifest(&[], with_unpacked), &only(root.path()))
}

#[test]
fn digits_touch_neither_disk_nor_network() {
    let nowhere = Search { data_dir: Some("/nonexistent".into()), ..only(Path::new("/nonexistent")) };
    let opened = open("digits", &nowhere).unwrap();
    assert_eq!((opened.train.len(), opened.test.len()), (12_000, 2_000));
    assert_eq!((opened.form.path.clone(), opened.form.verified()), (None, Verified::Drawn));
    assert!(opened.form.to_string().starts_with("digits drawn, drawn by this program, sha256 "));
}

#[test]
fn what_is_missing_is_told_with_place_and_command() {
    let error = open("mnist", &only(Path::new("/nonexistent"))).unwrap_err();
    assert!(error.is_missing());
    assert_eq!(
        error.to_string(),
        "dataset mnist was not found\n  looked for /nonexistent/mnist (idx): train-images-idx3-ubyte.gz, \
         train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz\n  \
         fetch it with: kd data fetch mnist"
    );
}

#[test]
fn the_publishers_idx_files_are_accepted() {
    let opened = open_idx(&packed(6), false).unwrap();
    assert_eq!(opened.form.verified(), Verified::Download);
    assert_eq!((opened.train.len(), opened.test.len()), (2, 1));
    assert_eq!((opened.train.labels(), opened.test.pixels(0)), (&[1, 1][..], Some(&[1; 4][..])));
}

#[test]
fn a_copy_packed_anew_or_unpacked_is_accepted_by_its_bytes() {
    assert_eq!(open_idx(&packed(1), true).unwrap().form.verified(), Verified::Unpacked);
    let plain: Vec<_> =
        idx_files().into_iter().map(|(name, bytes)| (&name[..name.len() - 3], bytes)).collect();
    assert_eq!(open_idx(&plain, true).unwrap().form.verified(), Verified::Unpacked);
    assert_eq!(open_idx(&plain, false).unwrap().form.verified(), Verified::Unpublished);
}

#[test]
fn other_bytes_are_refused_with_both_checksums() {
    let mut files = packed(6);
    let mut unpacked = idx_files()[0].1.clone();
    unpacked[20] ^= 1;
    files[0].1 = gzip(&unpacked, 6);
    let error = open_idx(&files, true).unwrap_err();
    let DataError::Checksum { path, algorithm, found, expected } = &error else { unreachable!("{error}") };
    assert!(path.ends_with("tiny/train-x.gz"));
    assert_eq!((*algorithm, found, expected), ("md5", &md5(&unpacked), &md5(&idx_files()[0].1)));
    assert!(!error.is_missing());
    // nothing is known of the unpacked bytes, so the packing counts
    assert!(matches!(open_idx(&packed(1), false), Err(DataError::Checksum { .. })));
}

#[test]
fn malformed_idx_files_are_refused_for_what_is_wrong_with_them() {
    let with = |which: usize, bytes: Vec<u8>| {
        let mut files = packed(6);
        files[which].1 = bytes;
        open_idx(&files, true).unwrap_err()
    };
    let whole = idx_files()[0].1.clone();
    assert!(matches!(with(0, whole[..20].to_vec()), DataError::Truncated { expected: 24, found: 20, .. }));
    assert!(matches!(with(0, idx_files()[1].1.clone()), DataError::Magic { found: 0x801, .. }));
    assert!(matches!(with(0, idx_files()[2].1.clone()), DataError::Count { found: 1, expected: 2, .. }));
    assert!(matches!(with(1, idx_files()[3].1.clone()), DataError::Count { found: 1, expected: 2, .. }));
    let label_7 = [&idx_files()[1].1[..9], &[7]].concat();
    assert!(matches!(with(1, label_7), DataError::Label { index: 1, label: 7, classes: 2, .. }));
    let torn = gzip(&whole, 6)[..20].to_vec();
    assert!(matches!(with(0, torn), DataError::Damaged { .. }));
    let bomb = gzip(&[&whole[..], &vec![0; 1 << 20]].concat(), 9);
    assert!(matches!(with(0, bomb), DataError::Oversized { limit: 24, .. }));
}

const BINARY: &str = "[[forms]]\nname = \"binary\"\nformat = { kind = \"cifar-binary\", folder = \"bin\", \
    label_bytes = 1, train = [\"a.bin\", \"b.bin\"], test = [\"c.bin\"] }\n[[forms.files]]\npath = \"t.tar.gz\"\n";

fn records() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("bin/b.bin", vec![1, 20, 21, 22, 23]),
        ("bin/a.bin", vec![0, 10, 11, 12, 13]),
        ("bin/c.bin", vec![1, 30, 31, 32, 33]),
        ("bin/readme.html", b"hello".to_vec()),
    ]
}

fn open_binary(files: &[(&str, Vec<u8>)], form: &str) -> Result<Opened, DataError> {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), files);
    open_manifest(&tiny(1, (2, 1), form), &only(root.path()))
}

#[test]
fn binary_archives_are_read_in_the_manifests_order() {
    let archive = tgz(&records());
    let form = format!("{BINARY}published = {{ md5 = {:?} }}\n", md5(&archive));
    let opened = open_binary(&[("t.tar.gz", archive)], &form).unwrap();
    assert_eq!(opened.train.all_pixels(), [10, 11, 12, 13, 20, 21, 22, 23]);
    assert_eq!((opened.train.labels(), opened.test.labels()), (&[0, 1][..], &[1][..]));
    assert!(opened.form.matches_published());
    let unpacked = open_binary(&records(), &form).unwrap();
    assert_eq!((unpacked.train, unpacked.form.verified()), (opened.train, Verified::Unpublished));
}

#[test]
fn malformed_binary_archives_are_refused() {
    let error = |records: &[(&str, Vec<u8>)]| open_binary(&[("t.tar.gz", tgz(records))], BINARY).unwrap_err();
    let text = error(&records()[..2]).to_string();
    assert!(text.ends_with("tiny/t.tar.gz: holds no c.bin"), "{text}");
    let with = |bytes: Vec<u8>| {
        let mut records = records();
        records[0].1 = bytes;
        error(&records)
    };
    assert!(matches!(with(vec![1, 2, 3]), DataError::Truncated { expected: 5, found: 3, .. }));
    assert!(matches!(with(vec![2, 0, 0, 0, 0]), DataError::Label { label: 2, .. }));
    assert!(matches!(with(vec![0; 15]), DataError::Oversized { limit: 10, .. }));
    assert!(matches!(with(vec![0; 10]), DataError::Count { found: 3, expected: 2, .. }));
    let mut bomb = records();
    bomb.push(("bin/zeros", vec![0; 8 << 20]));
    assert!(matches!(error(&bomb), DataError::Oversized { .. }));
    let form = format!("{BINARY}published = {{ md5 = {:?} }}\n", "0".repeat(32));
    let error = open_binary(&[("t.tar.gz", tgz(&records()))], &form).unwrap_err();
    assert!(matches!(error, DataError::Checksum { .. }));
}

const FOLDER: &str = "[[forms]]\nname = \"image-folder\"\nformat = { kind = \"image-folder\", train = \"train\", \
    test = \"test\" }\n[[forms.files]]\npath = \"t.tgz\"\n";

#[test]
fn an_archive_without_published_checksum_is_accepted_and_its_sha256_reported() {
    let root = tempfile::tempdir().unwrap();
    let image = |value| png(2, 2, [value; 3]);
    let pictures =
        [("train/cat/0.png", image(1)), ("train/dog/0.png", image(2)), ("test/dog/0.png", image(3))];
    let archive = tgz(&pictures);
    let sum = sha256(&archive);
    put(root.path(), &[("t.tgz", archive)]);
    let opened = open_manifest(&tiny(3, (2, 1), FOLDER), &only(root.path())).unwrap();
    assert_eq!((opened.form.verified(), opened.form.fingerprint()), (Verified::Unpublished, sum.clone()));
    let line = opened.form.to_string();
    assert!(
        line.starts_with("tiny image-folder from ")
            && line.ends_with(&format!("no published checksum, sha256 {sum}"))
    );

    let unpacked = tempfile::tempdir().unwrap();
    put(unpacked.path(), &pictures);
    let found = open_manifest(&tiny(3, (2, 1), FOLDER), &only(unpacked.path())).unwrap();
    assert_eq!((found.train, found.test), (opened.train, opened.test));

    let error = open_manifest(&tiny(3, (3, 1), FOLDER), &only(root.path())).unwrap_err();
    assert!(matches!(error, DataError::Count { found: 2, expected: 3, .. }), "{error}");
}
