#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// A report with everything in it: long names, several seeds, missing values.
fn full() -> Report {
    let row = |name: &str, parameters: u64, best: &[f64]| Row {
        name: name.into(),
        parameters,
        macs: Some(parameters * 5),
        bytes: parameters * 4,
        best: best.to_vec(),
        last: best.iter().map(|share| share - 0.0011).collect(),
        errors: best.iter().map(|share| ((1.0 - share) * 10_000.0).round() as u64).collect(),
        agreement: None,
        calibration_error: Some(0.0123),
        milliseconds_per_image: Some(0.1416 * parameters as f64 / 431_080.0),
        milliseconds_single: None,
    };
    let student = |name: &str, best: &[f64]| Row { agreement: Some(0.981), ..row(name, 43_810, best) };
    let names = ["student alone", "soft targets, T = 4, 0.9 <b>soft</b> & 0.1 hard", "attention transfer"];
    let rows = vec![
        row("teacher", 431_080, &[0.9921]),
        student(names[0], &[0.9792, 0.9811, 0.9803]),
        student(names[1], &[0.9862, 0.9858, 0.9871]),
        student(names[2], &[0.9841, 0.9833, 0.9852]),
    ];
    Report {
        title: "MNIST: LeNet-5 into a student a tenth its size".into(),
        dataset:
            "mnist, IDX files (gzip), sha256 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
                .into(),
        command:
            "kd distill configs/mnist/soft-targets/lenet5-half_from_lenet5.toml --set optim.lr=0.05 --seeds 3"
                .into(),
        notes: vec!["5,000 training images are held out; the best epoch is chosen on them.".into()],
        rows,
        curves: names.iter().enumerate().map(|(index, name)| curve(name, index)).collect(),
        sweeps: Vec::new(),
        confusion: Some(ConfusionMatrix { classes: DIGITS.map(str::to_owned).to_vec(), counts: counts() }),
        attention: vec![sample("a seven"), sample("a <three>")],
    }
}

fn curve(name: &str, index: usize) -> Curve {
    let records = (0..20)
        .map(|epoch| {
            let falling = (-(epoch as f64) / 4.0).exp();
            let mut terms = vec![("cross-entropy", 0.02 + 2.0 * falling)];
            if index > 0 {
                terms.push((["", "soft-targets", "attention-transfer"][index], 0.4 + 4.0 * falling));
            }
            let pairs = |pairs: &[(&str, f64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
            let weights: Vec<_> = terms.iter().map(|(term, _)| (*term, 0.5)).collect();
            EpochRecord {
                epoch,
                loss: terms.iter().map(|(_, value)| 0.5 * value).sum(),
                terms: pairs(&terms),
                weights: pairs(&weights),
                validation: pairs(&[("accuracy", 0.978 + 0.004 * index as f64 - 0.1 * falling)]),
                ..Default::default()
            }
        })
        .collect();
    Curve { name: name.into(), records }
}

fn counts() -> Vec<Vec<u64>> {
    let count = |label: u64, prediction: u64| match (label, prediction) {
        _ if label == prediction => 970 + label,
        _ => ((label * 7 + prediction * 3) % 11).saturating_sub(6),
    };
    (0..10).map(|label| (0..10).map(|prediction| count(label, prediction)).collect()).collect()
}

fn sample(label: &str) -> AttentionSample {
    let hill = |size: usize, i: usize| {
        let (y, x) = ((i / size) as f32 / size as f32 - 0.4, (i % size) as f32 / size as f32 - 0.6);
        (-(y * y + x * x) * 12.0).exp()
    };
    let pixels = (0..28 * 28).map(|i| (255.0 * hill(28, i)) as u8).collect();
    let image = Map { height: 28, width: 28, channels: 1, pixels };
    let map = |size: usize| GrayMap {
        height: size,
        width: size,
        values: (0..size * size).map(|i| hill(size, i)).collect(),
    };
    let names =
        [("teacher stage1", 12), ("student stage1", 12), ("teacher stage2", 4), ("student stage2", 4)];
    AttentionSample {
        label: label.into(),
        image,
        maps: names.map(|(name, size)| (name.into(), map(size))).to_vec(),
    }
}

#[test]
fn a_page_holds_every_row_and_part_and_needs_nothing_from_outside() {
    let page = full().render().unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    for expected in
        ["teacher", "student alone", "attention transfer", "431,080", "2.16 M", "98.64 ± 0.07 %", "+0.62"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    for heading in ["Comparison", "Learning curves", "Loss by term", "Confusion", "Attention"] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
    }
    // Accuracy, loss, two runs with several terms, two samples of an image and four maps.
    assert_eq!(page.matches("<svg").count(), 2 + 2 + 2 * 5);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for foreign in ["http", "<script", "<link", "@import", "url(", "src="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn names_are_escaped_wherever_they_stand() {
    let hostile = "</style><b>x</b>\"'&";
    let mut report = full();
    report.title = hostile.into();
    report.dataset = hostile.into();
    report.command = hostile.into();
    report.notes = vec![hostile.into()];
    report.rows[2].name = hostile.into();
    report.curves[1].name = hostile.into();
    report.attention[0].maps[0].0 = hostile.into();
    report.attention[0].label = hostile.into();
    let confusion = report.confusion.as_mut().unwrap();
    confusion.classes[0] = hostile.into();
    let page = report.render().unwrap();
    assert!(!page.contains("<b>x") && page.matches("</style>").count() == 1);
    assert!(page.matches("&lt;b&gt;x&lt;/b&gt;&quot;").count() >= 10);
}

#[test]
fn what_is_empty_is_left_out() {
    let page = Report { title: "empty".into(), ..Report::default() }.render().unwrap();
    assert!(page.contains("<h1>empty</h1>"));
    assert!(!page.contains("<h2>") && !page.contains("<table") && !page.contains("<svg"));
}

#[test]
fn writing_replaces_the_file_and_a_report_that_cannot_be_drawn_leaves_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/first/report.html");
    full().write(&path).unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    assert_eq!(before, full().render().unwrap());
    let confusion = Some(ConfusionMatrix { classes: vec!["a".into()], counts: vec![] });
    assert!(Report { confusion, ..full() }.write(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    Report::default().write(&path).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().len() < before.len());
}

#[test]
fn a_report_read_back_from_json_draws_the_same_page() {
    let text = serde_json::to_string(&full()).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert!(back.render().unwrap() == full().render().unwrap());
}

#[test]
#[ignore = "writes a page to look at, to the path in KD_REPORT"]
fn a_page_to_look_at() {
    let path = std::env::var_os("KD_REPORT").expect("KD_REPORT names the file to write");
    // Enough runs for every colour and then some.
    let mut report = full();
    let more = (3..9).map(|index| Curve { name: format!("seed {index}"), ..curve("", index % 3) });
    report.curves.extend(more);
    report.write(Path::new(&path)).unwrap();
    let table = table(&report.rows);
    std::fs::write(Path::new(&path).with_extension("txt"), table).unwrap();
}
