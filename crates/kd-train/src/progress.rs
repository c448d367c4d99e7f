//! Progress of a run: a bar in a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::log::{EpochRecord, TimingRecord};

/// How often plain lines come at most.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Told of every step by a [`Run`](crate::Run).
pub trait Progress: Send {
    /// An epoch of `steps` steps starts, `done` of which a checkpoint has already.
    fn epoch(&mut self, run: &str, epoch: usize, epochs: usize, steps: usize, done: usize);

    /// A step of `samples` samples is done.
    fn step(&mut self, samples: usize, loss: f64);

    /// The epoch is over; this is how it went and what it cost.
    fn epoch_end(&mut self, record: &EpochRecord, timing: &TimingRecord);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn epoch(&mut self, _run: &str, _epoch: usize, _epochs: usize, _steps: usize, _done: usize) {}
    fn step(&mut self, _samples: usize, _loss: f64) {}
    fn epoch_end(&mut self, _record: &EpochRecord, _timing: &TimingRecord) {}
}

/// A bar with time left and samples per second on standard error if that is a terminal, else log lines at level info.
#[derive(Debug, Default)]
pub struct Shown {
    bar: Option<ProgressBar>,
    title: String,
    steps: usize,
    done: usize,
    /// Steps that a checkpoint had already.
    skipped: usize,
    samples: usize,
    started: Option<Instant>,
    last_line: Option<Instant>,
}

impl Progress for Shown {
    fn epoch(&mut self, run: &str, epoch: usize, epochs: usize, steps: usize, done: usize) {
        let title = format!("{run} epoch {}/{epochs}", epoch + 1);
        let now = Some(Instant::now());
        *self = Self { title, steps, done, skipped: done, started: now, last_line: now, ..Self::default() };
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}, {eta} left");
            let bar =
                ProgressBar::new(steps as u64).with_prefix(self.title.clone()).with_position(done as u64);
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
    }

    fn step(&mut self, samples: usize, loss: f64) {
        self.done += 1;
        self.samples += samples;
        let seconds = self.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let rate = self.samples as f64 / seconds.max(1e-9);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("loss {loss:.4}, {rate:.0} samples/s"));
            bar.inc(1);
        } else if self.last_line.is_none_or(|line| line.elapsed() > LINE_EVERY) {
            self.last_line = Some(Instant::now());
            let here = self.done.saturating_sub(self.skipped).max(1) as f64;
            let left = self.steps.saturating_sub(self.done) as f64 * seconds / here;
            let (title, done, steps) = (&self.title, self.done, self.steps);
            tracing::info!(
                "{title} step {done}/{steps} loss {loss:.4}, {rate:.0} samples/s, {left:.0} s left"
            );
        }
    }

    fn epoch_end(&mut self, record: &EpochRecord, timing: &TimingRecord) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        tracing::info!("{} {}", self.title, summary(record, timing));
    }
}

fn summary(record: &EpochRecord, timing: &TimingRecord) -> String {
    let metrics = record.validation.iter().map(|(name, value)| format!("{name} {value:.4}"));
    let metrics: Vec<_> = metrics.collect();
    let (loss, rate) = (record.loss, timing.samples_per_second);
    let (train, loader, diagnostics) = (timing.train, 100.0 * timing.loader, timing.diagnostics);
    let metrics = metrics.join(", ");
    format!(
        "loss {loss:.4}, validation {metrics}; {rate:.0} samples/s, {train:.1} s ({loader:.1} % waiting for the loader) + {diagnostics:.2} s \
         diagnostics"
    )
}
