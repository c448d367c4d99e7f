//! Progress as live charts in the terminal, by burn-train (feature `tui`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger;
use burn_train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};

use crate::log::{EpochRecord, TimingRecord};
use crate::progress::Progress;

/// burn-train's terminal interface: the loss by step, every validation metric by epoch. Its key for stopping sets the run's stop flag.
pub struct Tui {
    renderer: TuiMetricsRendererWrapper,
    interrupter: Interrupter,
    stop: Arc<AtomicBool>,
    known: Vec<String>,
    done: usize,
}

impl Tui {
    /// Takes over the terminal; `stop` is the flag given to [`Run::stop_flag`](crate::Run::stop_flag).
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        let interrupter = Interrupter::new();
        let renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        Self { renderer, interrupter, stop, known: Vec::new(), done: 0 }
    }

    fn state(&mut self, name: &str, value: f64, higher_is_better: bool) -> MetricState {
        let metric_id = MetricId::new(Arc::new(name.to_owned()));
        if !self.known.iter().any(|known| known == name) {
            self.known.push(name.to_owned());
            let attributes = MetricAttributes::Numeric(NumericAttributes { unit: None, higher_is_better });
            let name = Arc::new(name.to_owned());
            let definition =
                MetricDefinition { metric_id: metric_id.clone(), name, description: None, attributes };
            self.renderer.register_metric(definition);
        }
        let text = format!("{value:.4}");
        let entry =
            MetricEntry::new(metric_id, SerializedEntry { formatted: text.clone(), serialized: text });
        MetricState::Numeric(entry, Some(NumericEntry::Value(value)))
    }
}

impl Progress for Tui {
    fn epoch(&mut self, run: &str, epoch: usize, epochs: usize, steps: usize, done: usize) {
        if self.known.is_empty() {
            self.renderer.start(epochs, epoch + 1, None, Some(run));
        }
        self.done = done;
        self.renderer.start_split("train", steps);
        self.renderer.update_split(done);
    }

    fn step(&mut self, _samples: usize, loss: f64) {
        self.done += 1;
        self.renderer.update_split(self.done);
        let state = self.state("loss", loss, false);
        self.renderer.update_train(state);
        if self.interrupter.should_stop() {
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    fn epoch_end(&mut self, record: &EpochRecord, _timing: &TimingRecord) {
        self.renderer.end_split();
        self.renderer.update_epoch(record.epoch + 1);
        for (name, &value) in &record.validation {
            let state = self.state(name, value, name == "accuracy");
            self.renderer.update_valid(state);
        }
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.renderer.end();
        self.renderer.manual_close();
    }
}
