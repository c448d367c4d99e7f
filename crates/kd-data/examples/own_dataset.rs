//! A dataset of one's own, here of texts: any sample type goes through the same loader.
//!
//! Command:  cargo run --release -p kd-data --example own_dataset
//! Expected: three epochs of two batches each, every epoch in another order.

use std::sync::Arc;

use kd_data::{DataError, Dataset, Loader, LoaderSettings, Pass, Stream};

/// Sentences with a verdict.
struct Reviews(Vec<(&'static str, bool)>);

/// Bytes of each sentence, padded with spaces to the longest, and the verdicts.
struct Tokens {
    bytes: Vec<Vec<u8>>,
    liked: Vec<bool>,
}

impl Dataset for Reviews {
    type Batch = Tokens;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn batch(&self, ids: &[usize], pass: Pass) -> Result<Tokens, DataError> {
        let mut tokens = Tokens { bytes: Vec::new(), liked: Vec::new() };
        for &id in ids {
            let &(text, liked) = self.0.get(id).ok_or(DataError::Index { index: id, len: self.len() })?;
            let mut words: Vec<&str> = text.split(' ').collect();
            // Augmentation: two neighbours change places, a function of (seed, view, id) only.
            let at = Stream::new(&[pass.seed, pass.view, id as u64]).below(words.len() - 1);
            words.swap(at, at + 1);
            tokens.bytes.push(words.join(" ").into_bytes());
            tokens.liked.push(liked);
        }
        let longest = tokens.bytes.iter().map(Vec::len).max().unwrap_or(0);
        tokens.bytes.iter_mut().for_each(|bytes| bytes.resize(longest, b' '));
        Ok(tokens)
    }
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), DataError> {
    let reviews = Reviews(vec![
        ("a quiet marvel of a film", true),
        ("two hours that felt like four", false),
        ("warm, funny and over too soon", true),
        ("the trailer was better than this", false),
    ]);
    let loader = Loader::new(Arc::new(reviews), LoaderSettings { batch_size: 2, ..Default::default() })?;
    for epoch in 0..3 {
        for loaded in loader.epoch(epoch, 0) {
            let loaded = loaded?;
            let texts = loaded.batch.bytes.iter().map(|bytes| String::from_utf8_lossy(bytes));
            println!("epoch {epoch}, samples {:?}: {:?}", loaded.ids, texts.collect::<Vec<_>>());
            println!("  liked: {:?}", loaded.batch.liked);
        }
    }
    Ok(())
}
