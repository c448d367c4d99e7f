//! The readers on the real files. Command:
//! `KD_DATA_DIR=<folder> cargo test --release -p kd-data --test real_data -- --ignored`
#![allow(clippy::unwrap_used)]

use kd_data::{Search, Verified, open};

fn offline() -> Search {
    let search = Search { download: false, ..Search::default() };
    assert!(search.env_dir.is_some(), "KD_DATA_DIR must name a folder with mnist/ and cifar10/");
    search
}

#[test]
#[ignore = "needs KD_DATA_DIR with mnist/"]
fn mnist_has_its_published_bytes_and_statistics() {
    let mnist = open("mnist", &offline()).unwrap();
    assert!(mnist.form.matches_published(), "{}", mnist.form);
    assert_eq!((mnist.train.len(), mnist.test.len()), (60_000, 10_000));
    assert_eq!(
        (&mnist.train.labels()[..5], &mnist.test.labels()[..5]),
        (&[5, 0, 4, 1, 9][..], &[7, 2, 1, 0, 4][..])
    );
    let all: Vec<usize> = (0..60_000).collect();
    let found = mnist.train.statistics(&all).unwrap();
    // the values every MNIST program quotes
    assert!((found.mean[0] - 0.1307).abs() < 5e-5 && (found.std[0] - 0.3081).abs() < 5e-5, "{found:?}");
    let (train, validation) = mnist.train.hold_out(5_000, 0).unwrap();
    assert_eq!((train.len(), validation.len()), (55_000, 5_000));
}

#[test]
#[ignore = "needs KD_DATA_DIR with cifar10/"]
fn cifar10_is_read_in_the_form_that_is_there() {
    let cifar = open("cifar10", &offline()).unwrap();
    assert_eq!((cifar.train.len(), cifar.test.len()), (50_000, 10_000));
    for class in 0..10 {
        assert_eq!(cifar.train.labels().iter().filter(|&&label| label == class).count(), 5_000);
        assert_eq!(cifar.test.labels().iter().filter(|&&label| label == class).count(), 1_000);
    }
    let all: Vec<usize> = (0..50_000).collect();
    let found = cifar.train.statistics(&all).unwrap();
    // the original's statistics; recompression moves them little
    for (mean, quoted) in found.mean.iter().zip([0.4914, 0.4822, 0.4465]) {
        assert!((mean - quoted).abs() < 0.005, "{found:?}");
    }
    let unpublished = cifar.form.verified() == Verified::Unpublished;
    assert_eq!(unpublished, cifar.form.form == "image-folder", "{}", cifar.form);
}
