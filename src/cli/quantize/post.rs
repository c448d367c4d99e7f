//! `kd quantize --post`: a trained model in integers, without training.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Tensor;
use clap::{ArgAction, ValueEnum};
use kd::core::Traced;
use kd::graph::GraphModule;
use kd::program::Common;
use kd::quant::observer::RangeMethod;
use kd::quant::plan::{QuantPlan, Quantizer};
use kd::quant::post::{AdaRoundFit, Calibration, PostTraining, Rounding};
use kd::quantising::{IntegerForm, for_deployment};

use super::subject::{Subject, accuracy, files, write};
use crate::cli::say;

/// How a model is quantised without training.
#[derive(clap::Args)]
pub struct Choices {
    /// How a range of activations follows from what the calibration images show.
    #[arg(long, value_enum, default_value_t = Ranges::MinMax, value_name = "HOW", requires = "post", conflicts_with = "plan")]
    ranges: Ranges,
    /// How a range of weights follows from the weights of an output channel.
    #[arg(long, value_enum, default_value_t = WeightRanges::MinMax, value_name = "HOW", requires = "post", conflicts_with = "plan")]
    weight_ranges: WeightRanges,
    /// Rescale channels from layer to layer so that their ranges are alike, and move what a rectifier never cuts into the next layer's bias.
    #[arg(long, requires = "post")]
    equalise: bool,
    /// Whether the mean error of every output channel is taken back by the bias.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "true|false", requires = "post")]
    bias_correction: bool,
    /// How weights become codes.
    #[arg(long, value_enum, default_value_t = RoundingName::Nearest, value_name = "HOW", requires = "post")]
    rounding: RoundingName,
    /// Use no images: ranges and mean errors follow from batch normalisations and weights. With `--data`, accuracy is still measured.
    #[arg(long, requires = "post", conflicts_with_all = ["calibration", "ranges"])]
    data_free: bool,
}

/// The observers of activations.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ranges {
    /// From the least to the greatest value.
    MinMax,
    /// The batches' ranges, averaged.
    MovingAverage,
    /// Without a thousandth of the values at either end.
    Percentile,
    /// Cut where the squared error within 2048 bins is least.
    Histogram,
    /// Cut where the KL divergence is least.
    Kl,
    /// Shrunk to the least squared error.
    Mse,
}

/// The observers of weights, which have a range for each output channel.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WeightRanges {
    /// From the least to the greatest value.
    MinMax,
    /// Shrunk to the least squared error.
    Mse,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoundingName {
    /// To the nearest code.
    Nearest,
    /// Up or down, as reproduces the layer's output.
    #[value(name = "adaround")]
    AdaRound,
    /// As a sum of ternary planes, refined on the layer's output.
    BitSplit,
}

impl Choices {
    fn settings(&self) -> PostTraining {
        let rounding = match self.rounding {
            RoundingName::Nearest => Rounding::Nearest {},
            RoundingName::AdaRound => Rounding::AdaRound(AdaRoundFit::default()),
            // There is no output to refine it on without data.
            RoundingName::BitSplit => Rounding::BitSplit { epochs: if self.data_free { 0 } else { 4 } },
        };
        // Equalisation makes biases larger, as in the paper.
        let (equalise, absorb_bias, correct_bias) = (self.equalise, self.equalise, self.bias_correction);
        PostTraining { equalise, absorb_bias, rounding, correct_bias, ..PostTraining::default() }
    }

    /// A plan of observed ranges with the chosen observers.
    fn observe(&self, plan: &mut QuantPlan) {
        let activations = match self.ranges {
            Ranges::MinMax => RangeMethod::MinMax {},
            Ranges::MovingAverage => RangeMethod::MovingAverage { constant: 0.01 },
            Ranges::Percentile => RangeMethod::Percentile { tail: 0.001 },
            Ranges::Histogram => RangeMethod::Histogram { bins: 2048 },
            Ranges::Kl => RangeMethod::Entropy { bins: 2048 },
            Ranges::Mse => RangeMethod::LeastError { power: 2.0 },
        };
        let weights = match self.weight_ranges {
            WeightRanges::MinMax => RangeMethod::MinMax {},
            WeightRanges::Mse => RangeMethod::LeastError { power: 2.0 },
        };
        let points = plan.activations.values_mut().map(|point| (&mut point.quantizer, activations));
        for (quantizer, range) in plan.weights.values_mut().map(|weight| (weight, weights)).chain(points) {
            if let Quantizer::Uniform(uniform) = quantizer {
                uniform.range = range;
            }
        }
    }
}

/// Quantises, measures both forms on the test split, writes the graph, its tensors and the plan.
pub fn run(model: &Path, subject: &Subject, choices: &Choices, common: &Common) -> Result<()> {
    let files = files(common, &["quantised.json", "quantised.safetensors", "plan.json"])?;
    let opened = subject.open(model, common)?;
    let settings = choices.settings();
    let prepared = settings.prepare(&opened.graph)?;
    let plan = match subject.saved_plan()? {
        Some(plan) => for_deployment(plan, &opened.graph)?,
        None => {
            let mut plan = subject.new_plan(prepared.graph())?;
            choices.observe(&mut plan);
            plan
        }
    };
    let batches = if choices.data_free { Vec::new() } else { subject.calibration(&opened)? };
    let calibration = match choices.data_free {
        true => Calibration::Statistics,
        false => Calibration::Batches(&batches),
    };
    let (quantised, report) = settings.run(&prepared, &plan, calibration, &opened.device)?;
    say(format!("{plan}\n\n{report}\n"))?;
    let (network, mut on_codes) = IntegerForm::new(&quantised, &opened.device)?;
    match &opened.data {
        Some(data) => {
            let float: Traced<Tensor<4>> = GraphModule::new(opened.graph, &opened.device)?.into();
            let test = data.test()?;
            on_codes.compare(&network, &test, &opened.device)?;
            say(on_codes.to_string())?;
            let (before, after) =
                (accuracy(&float, &test, &opened.device)?, accuracy(&network, &test, &opened.device)?);
            say(format!("accuracy {:.2} % in float, {:.2} % in integers", 100.0 * before, 100.0 * after))?;
        }
        None => {
            say(on_codes.to_string())?;
            say("accuracy was not measured: name a dataset with --data")?;
        }
    }
    let Some([graph, _, file]) = files.as_deref() else {
        return say("nothing was written: name a folder with --out");
    };
    write(file, &serde_json::to_vec(&plan)?)?;
    quantised.save(graph)?;
    say(format!("{} with its weights beside it, {}", graph.display(), file.display()))
}
