//! Shows what the built-in `digits` look like: a sheet of 20 × 30 samples.
//!
//! Command:  cargo run --release -p kd-data --example digits_sheet -- digits.png
//! Expected: `digits.png`, 840 × 560 pixels, ten classes in columns, readable at a glance.

use image::{GrayImage, Luma};
use kd_data::digits;

const COLUMNS: usize = 30;
const ROWS: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "digits.png".into());
    let images = digits::generate(COLUMNS * ROWS, 0);
    let side = digits::SIDE;
    let sheet = GrayImage::from_fn((COLUMNS * side) as u32, (ROWS * side) as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let sample = images.pixels(y / side * COLUMNS + x / side).unwrap_or_default();
        Luma([sample.get(y % side * side + x % side).copied().unwrap_or_default()])
    });
    sheet.save(&path)?;
    Ok(())
}
