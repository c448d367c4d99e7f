//! The table of losses by name.

use super::{
    ActivationBoundariesSettings, AttentionTransferSettings, CorrelationCongruenceSettings, CrdSettings,
    CrossEntropySettings, DarkRankSettings, DistSettings, DkdSettings, FactorTransferSettings,
    FitNetsSettings, FspSettings, GeneralisedJsdSettings, GradientAttentionSettings,
    LargeMarginSoftmaxSettings, LogitMseSettings, LogitStandardisationSettings, LossSettings,
    MultiLevelSettings, NstSettings, OfdSettings, PairWiseSettings, PixelWiseSettings, PktSettings,
    ReviewKdSettings, RkdSettings, SimilarityPreservingSettings, SoftTargetsSettings, SquaredErrorSettings,
    TripletSettings, VerificationSettings, VidSettings,
};
use crate::settings::SettingsError;
use crate::term::Term;

/// A row of [`METHODS`].
pub struct Method {
    /// The name in recipes, in the field's standard terms.
    pub name: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The weight a recipe gets that names none, beside a cross-entropy of weight 1 unless [`weight_source`](Self::weight_source) says otherwise.
    pub weight: f64,
    /// Whose weight that is: the paper's, that of public code, or our choice where neither gives one for this form of the loss.
    pub weight_source: &'static str,
    build: fn(toml::Table) -> Result<Box<dyn Term>, SettingsError>,
}

/// Every loss there is.
pub const METHODS: &[Method] = &[
    Method {
        name: "cross-entropy",
        summary: "hard labels, with label smoothing, class weights and ignored labels",
        paper: "Szegedy et al. 2016, arXiv:1512.00567 (label smoothing)",
        weight: 1.0,
        weight_source: "the unit that the others are weighed in",
        build: build::<CrossEntropySettings>,
    },
    Method {
        name: "squared-error",
        summary: "squared distance to a regression target",
        paper: "Gauss 1809",
        weight: 1.0,
        weight_source: "the unit that the others are weighed in",
        build: build::<SquaredErrorSettings>,
    },
    Method {
        name: "soft-targets",
        summary: "tempered class probabilities of one or several teachers",
        paper: "Hinton, Vinyals, Dean 2015, arXiv:1503.02531",
        weight: 0.9,
        weight_source: "RepDistiller and mdistiller, beside a cross-entropy of 0.1",
        build: build::<SoftTargetsSettings>,
    },
    Method {
        name: "logit-mse",
        summary: "squared distance of logits",
        paper: "Ba, Caruana 2014, arXiv:1312.6184",
        weight: 1.0,
        weight_source: "our choice",
        build: build::<LogitMseSettings>,
    },
    Method {
        name: "decoupled",
        summary: "target-class and non-target parts of the soft targets, weighted apart (DKD)",
        paper: "Zhao et al. 2022, arXiv:2203.08679",
        weight: 1.0,
        weight_source: "mdistiller; alpha and beta are settings",
        build: build::<DkdSettings>,
    },
    Method {
        name: "dist",
        summary: "correlation of predictions within samples and within classes",
        paper: "Huang et al. 2022, arXiv:2205.10536",
        weight: 1.0,
        weight_source: "the paper; beta and gamma are settings",
        build: build::<DistSettings>,
    },
    Method {
        name: "logit-standardisation",
        summary: "soft targets on logits without mean and scale",
        paper: "Sun et al. 2024, arXiv:2403.01427",
        weight: 9.0,
        weight_source: "its authors' code, beside a cross-entropy of 0.1",
        build: build::<LogitStandardisationSettings>,
    },
    Method {
        name: "multi-level",
        summary: "soft targets with batch and class correlations at several temperatures",
        paper: "Jin, Wang, Lin 2023, CVPR",
        weight: 1.0,
        weight_source: "our choice; its authors weigh every level apart",
        build: build::<MultiLevelSettings>,
    },
    Method {
        name: "generalised-jsd",
        summary: "generalised Jensen-Shannon divergence of token distributions (GKD)",
        paper: "Agarwal et al. 2024, arXiv:2306.13649",
        weight: 1.0,
        weight_source: "the paper, where it is the only loss",
        build: build::<GeneralisedJsdSettings>,
    },
    Method {
        name: "fitnets",
        summary: "hidden features through a learned regressor (hints)",
        paper: "Romero et al. 2015, arXiv:1412.6550",
        weight: 100.0,
        weight_source: "RepDistiller and mdistiller",
        build: build::<FitNetsSettings>,
    },
    Method {
        name: "attention-transfer",
        summary: "where in the image a layer is active",
        paper: "Zagoruyko, Komodakis 2017, arXiv:1612.03928",
        weight: 1000.0,
        weight_source: "the paper, RepDistiller and mdistiller",
        build: build::<AttentionTransferSettings>,
    },
    Method {
        name: "gradient-attention",
        summary: "what in the input the loss depends on (gradients), of the teacher or of the mirrored image",
        paper: "Zagoruyko, Komodakis 2017, arXiv:1612.03928",
        weight: 1.0,
        weight_source: "our choice; depends on the scale of the input",
        build: build::<GradientAttentionSettings>,
    },
    Method {
        name: "fsp",
        summary: "how the channels at both ends of a section go together",
        paper: "Yim, Joo, Bae, Kim, CVPR 2017",
        weight: 1.0,
        weight_source: "the paper; RepDistiller has 50 for a mean over the matrix",
        build: build::<FspSettings>,
    },
    Method {
        name: "nst",
        summary: "what the neurons of a layer select, as a set (maximum mean discrepancy)",
        paper: "Huang, Wang 2017, arXiv:1707.01219",
        weight: 50.0,
        weight_source: "RepDistiller and mdistiller",
        build: build::<NstSettings>,
    },
    Method {
        name: "factor-transfer",
        summary: "compressed features (factors) through a learned translator",
        paper: "Kim, Park, Kwak 2018, arXiv:1802.04977",
        weight: 500.0,
        weight_source: "the paper; RepDistiller has 200",
        build: build::<FactorTransferSettings>,
    },
    Method {
        name: "reviewkd",
        summary: "maps and their averages over coarser and coarser grids (hierarchical context loss)",
        paper: "Chen et al. 2021, arXiv:2104.09044",
        weight: 1.0,
        weight_source: "mdistiller, after a warm-up of 20 epochs",
        build: build::<ReviewKdSettings>,
    },
    Method {
        name: "rkd",
        summary: "distances and angles between the examples of a batch",
        paper: "Park et al. 2019, arXiv:1904.05068",
        weight: 1.0,
        weight_source: "RepDistiller and mdistiller; 25 and 50 for distance and angle are settings",
        build: build::<RkdSettings>,
    },
    Method {
        name: "darkrank",
        summary: "the ranking of similarities within a batch",
        paper: "Chen et al. 2018, arXiv:1707.01220",
        weight: 2.0,
        weight_source: "our choice",
        build: build::<DarkRankSettings>,
    },
    Method {
        name: "similarity-preserving",
        summary: "row-normalised similarities of the activations of a batch",
        paper: "Tung, Mori 2019, arXiv:1907.09682",
        weight: 3000.0,
        weight_source: "the paper, RepDistiller and mdistiller",
        build: build::<SimilarityPreservingSettings>,
    },
    Method {
        name: "correlation-congruence",
        summary: "Gaussian-kernel correlations between the examples of a batch",
        paper: "Peng et al. 2019, arXiv:1904.01802",
        weight: 100.0,
        weight_source: "our choice; RepDistiller has 0.02 for `adjacent-pairs`",
        build: build::<CorrelationCongruenceSettings>,
    },
    Method {
        name: "pkt",
        summary: "similarities within a batch as probabilities",
        paper: "Passalis, Tefas 2018, arXiv:1803.10837",
        weight: 500.0,
        weight_source: "RepDistiller and mdistiller: 30000 for a mean over the 64 x 64 entries of a batch, here a sum over a row",
        build: build::<PktSettings>,
    },
    Method {
        name: "pixel-wise",
        summary: "class probabilities of every position of a dense prediction",
        paper: "Liu et al. 2019, arXiv:1903.04197",
        weight: 10.0,
        weight_source: "its authors' code",
        build: build::<PixelWiseSettings>,
    },
    Method {
        name: "pair-wise",
        summary: "similarities between the regions of a feature map",
        paper: "Liu et al. 2019, arXiv:1903.04197",
        weight: 1.0,
        weight_source: "its authors' code",
        build: build::<PairWiseSettings>,
    },
    Method {
        name: "large-margin-softmax",
        summary: "hard labels through a classifier with an angular margin, for embeddings",
        paper: "Liu et al. 2016, arXiv:1612.02295",
        weight: 1.0,
        weight_source: "the paper, where it is the only loss",
        build: build::<LargeMarginSoftmaxSettings>,
    },
    Method {
        name: "verification",
        summary: "distances of pairs of equal and of different classes",
        paper: "Sun et al. 2014, arXiv:1406.4773",
        weight: 1.0,
        weight_source: "our choice",
        build: build::<VerificationSettings>,
    },
    Method {
        name: "triplet",
        summary: "positives nearer to an anchor than negatives, by a margin",
        paper: "Schroff et al. 2015, arXiv:1503.03832",
        weight: 1.0,
        weight_source: "the paper, where it is the only loss",
        build: build::<TripletSettings>,
    },
    Method {
        name: "overhaul",
        summary: "features before the ReLU, negative ones down to a margin only (OFD)",
        paper: "Heo et al. 2019, arXiv:1904.01866",
        weight: 1e-3,
        weight_source: "the paper and mdistiller",
        build: build::<OfdSettings>,
    },
    Method {
        name: "activation-boundaries",
        summary: "on which side of zero features lie before the ReLU",
        paper: "Heo et al. 2019, arXiv:1811.03233",
        weight: 3e-3,
        weight_source: "RepDistiller",
        build: build::<ActivationBoundariesSettings>,
    },
    Method {
        name: "vid",
        summary: "features predicted with a learned variance per channel",
        paper: "Ahn et al. 2019, arXiv:1904.05835",
        weight: 1.0,
        weight_source: "RepDistiller and mdistiller",
        build: build::<VidSettings>,
    },
    Method {
        name: "crd",
        summary: "embeddings of the same sample told from those of others, out of a memory",
        paper: "Tian, Krishnan, Isola 2020, arXiv:1910.10699",
        weight: 0.8,
        weight_source: "RepDistiller and mdistiller",
        build: build::<CrdSettings>,
    },
];

/// The loss called `name`, from the rest of its table in a recipe.
///
/// ```
/// let term = kd_core::losses::by_name("soft-targets", toml::toml! { temperature = 4.0 })?;
/// assert!(term.wants().needs_teacher);
/// let error = kd_core::losses::by_name("soft-targets", toml::toml! { temprature = 4.0 }).unwrap_err();
/// assert!(error.to_string().contains("temprature"));
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
///
/// # Errors
/// [`SettingsError::UnknownLoss`], or what is wrong with the settings.
pub fn by_name(name: &str, settings: toml::Table) -> Result<Box<dyn Term>, SettingsError> {
    let method = METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
        let known = METHODS.iter().map(|method| method.name.to_owned()).collect();
        SettingsError::UnknownLoss { name: name.to_owned(), known }
    })?;
    (method.build)(settings)
        .map_err(|error| SettingsError::Loss { loss: name.to_owned(), message: error.to_string() })
}

/// Parses and checks the settings.
fn build<S: LossSettings>(settings: toml::Table) -> Result<Box<dyn Term>, SettingsError> {
    let parsed: S =
        settings.try_into().map_err(|e: toml::de::Error| SettingsError::Parse(e.message().to_owned()))?;
    Ok(Box::new(parsed.build()?))
}
