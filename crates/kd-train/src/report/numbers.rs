//! Numbers in the form the field writes them.

/// `98.47 ± 0.12 %`: mean and sample standard deviation of shares; no deviation for one value, nothing for none.
pub(super) fn percent(shares: &[f64]) -> Option<String> {
    let hundredths: Vec<f64> = shares.iter().map(|share| share * 100.0).collect();
    spread(&hundredths, 2).map(|text| format!("{text} %"))
}

/// `153` for one count, `153.3 ± 12.1` for several.
pub(super) fn counts(counts: &[u64]) -> Option<String> {
    let numbers: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
    spread(&numbers, usize::from(counts.len() > 1))
}

/// Arithmetic mean.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn spread(values: &[f64], decimals: usize) -> Option<String> {
    let mean = mean(values)?;
    if values.len() == 1 {
        return Some(format!("{mean:.decimals$}"));
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (values.len() - 1) as f64).sqrt();
    Some(format!("{mean:.decimals$} ± {deviation:.decimals$}"))
}

/// `+0.35`: a difference of two shares in percentage points.
pub(super) fn points(difference: f64) -> String {
    let text = format!("{:+.2}", difference * 100.0);
    // A minus sign is as wide as a plus sign, a hyphen is not.
    if matches!(text.as_str(), "-0.00" | "+0.00") { "±0.00".to_owned() } else { text.replace('-', "−") }
}

/// `431,080`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2.29 M`.
pub(super) fn operations(number: u64) -> String {
    scaled(number, ["", " k", " M", " G", " T"])
}

/// `1.72 MB`, of 1000 each.
pub(super) fn bytes(number: u64) -> String {
    scaled(number, [" B", " kB", " MB", " GB", " TB"])
}

fn scaled(number: u64, units: [&str; 5]) -> String {
    let mut value = number as f64;
    let mut unit = units[0];
    for next in &units[1..] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let whole = unit == units[0];
    if whole { format!("{number}{unit}") } else { format!("{}{unit}", significant(value)) }
}

/// Three significant digits: `0.142`, `3.40`, `27.5`, `1234`.
pub(super) fn significant(value: f64) -> String {
    let magnitude = if value == 0.0 || !value.is_finite() { 0.0 } else { value.abs().log10().floor() };
    let decimals = (2.0 - magnitude).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    // Rounding up may add a digit in front, as from 9.996 to 10.00.
    let grown = text.parse::<f64>().is_ok_and(|rounded| rounded.abs() >= 10f64.powf(magnitude + 1.0));
    let decimals = decimals - usize::from(grown && decimals > 0);
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_show_mean_and_sample_deviation() {
        assert_eq!(percent(&[0.98, 0.99, 0.985]).as_deref(), Some("98.50 ± 0.50 %"));
        assert_eq!(percent(&[0.9847]).as_deref(), Some("98.47 %"));
        assert_eq!(percent(&[]), None);
    }

    #[test]
    fn counts_are_whole_for_one_seed() {
        assert_eq!(counts(&[153]).as_deref(), Some("153"));
        assert_eq!(counts(&[140, 160]).as_deref(), Some("150.0 ± 14.1"));
    }

    #[test]
    fn differences_carry_their_sign_and_nothing_has_none() {
        assert_eq!(points(0.0035), "+0.35");
        assert_eq!(points(-0.0035), "−0.35");
        assert_eq!(points(-0.000001), "±0.00");
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let pairs = [(0, "0"), (999, "999"), (1000, "1,000"), (431_080, "431,080"), (1_234_567, "1,234,567")];
        pairs.iter().for_each(|(number, text)| assert_eq!(thousands(*number), *text));
    }

    #[test]
    fn sizes_keep_three_digits_across_the_change_of_unit() {
        assert_eq!(operations(2_293_000), "2.29 M");
        assert_eq!(operations(40_551_040), "40.6 M");
        assert_eq!(operations(999), "999");
        assert_eq!(operations(999_700), "1.00 M");
        assert_eq!(bytes(1_724_320), "1.72 MB");
        assert_eq!(bytes(0), "0 B");
    }

    #[test]
    fn three_significant_digits_also_where_rounding_adds_one() {
        let pairs = [(0.1416, "0.142"), (9.996, "10.0"), (27.46, "27.5"), (1234.4, "1234"), (0.0, "0.00")];
        pairs.iter().for_each(|(number, text)| assert_eq!(significant(*number), *text));
    }
}
