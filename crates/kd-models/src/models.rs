//! The table of models.

/// One row of [`MODELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// How it is written in a recipe; capital letters stand for numbers.
    pub name: &'static str,
    /// A name that can be used as it stands.
    pub example: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
}

const fn row(
    name: &'static str,
    example: &'static str,
    summary: &'static str,
    paper: &'static str,
) -> ModelInfo {
    ModelInfo { name, example, summary, paper }
}

const LECUN: &str = "LeCun et al., 1998, Gradient-based learning applied to document recognition";

/// Every model that a recipe can name.
pub const MODELS: &[ModelInfo] = &[
    row("linear", "linear", "linear classifier on pixels", "none"),
    row(
        "mlp:A,B,...",
        "mlp:800,800",
        "perceptron with hidden layers of A, B, ... units; `;dropout=INPUT,HIDDEN` adds dropout",
        "Hinton et al., 2015, arXiv:1503.02531 (800,800 and 1200,1200)",
    ),
    row(
        "mlp-bn:A,B,...",
        "mlp-bn:500,300",
        "as mlp, with batch normalisation after every hidden layer",
        "Liu et al., 2017, arXiv:1708.06519 (500,300)",
    ),
    row("lenet300-100", "lenet300-100", "perceptron with 300 and 100 hidden units", LECUN),
    row("lenet5", "lenet5", "LeNet-5 with 20 and 50 channels and 500 units", LECUN),
    row("lenet5-half", "lenet5-half", "LeNet-5 with half of every layer: 10, 25, 250", LECUN),
    row("lenet5-tenth", "lenet5-tenth", "LeNet-5 with a tenth of the parameters: 6, 16, 150", LECUN),
    row("lenet5:C,D,F", "lenet5:8,16,80", "LeNet-5 with C and D channels and F units", LECUN),
    row(
        "resnetD",
        "resnet20",
        "residual network for CIFAR of depth D = 6n + 2: 8, 20, 32, 56, 110, ...",
        "He et al., 2016, arXiv:1512.03385",
    ),
    row(
        "wrnD-K",
        "wrn16-2",
        "wide residual network of depth D = 6n + 4, K times wider",
        "Zagoruyko and Komodakis, 2016, arXiv:1605.07146",
    ),
    row(
        "vggD",
        "vgg8",
        "VGG with batch normalisation for CIFAR, D = 8, 11, 13, 16 or 19",
        "Simonyan and Zisserman, 2015, arXiv:1409.1556",
    ),
    row(
        "mobilenetv2",
        "mobilenetv2",
        "MobileNetV2 for CIFAR at width 1.0",
        "Sandler et al., 2018, arXiv:1801.04381",
    ),
];
