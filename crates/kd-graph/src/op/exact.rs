//! Floating point attributes in files, bit for bit.
//!
//! JSON has no infinity, and its parser rounds the last bit of some numbers: they are written as text, by Rust's shortest form that reads back as
//! the same number. Plain numbers are read too.

use serde::{Deserialize, Deserializer, Serializer, de};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl Written {
    fn value<E: de::Error>(self) -> Result<f64, E> {
        match self {
            Written::Number(value) => Ok(value),
            Written::Text(text) => {
                text.parse().map_err(|_| E::custom(format!("`{text}` is not a floating point number")))
            }
        }
    }
}

pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:?}"))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Written::deserialize(deserializer)?.value()
}

/// The same for attributes that may be missing.
pub(super) mod option {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<Written>::deserialize(deserializer)?.map(Written::value).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Attention, Scalar};

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let hard =
            [f64::from(1e-5_f32), 0.1 + 0.2, 2.225_073_858_507_201e-308, -0.0, f64::NEG_INFINITY, 1e300];
        for value in hard {
            let json = serde_json::to_string(&Scalar::Float(value)).unwrap();
            let back: Scalar = serde_json::from_str(&json).unwrap();
            assert_eq!(back.as_f64().to_bits(), value.to_bits(), "{json}");
        }
        assert_eq!(serde_json::from_str::<Scalar>(r#"{"float": 0.5}"#).unwrap(), Scalar::Float(0.5));
        assert!(
            serde_json::from_str::<Scalar>(r#"{"float": "half"}"#)
                .unwrap_err()
                .to_string()
                .contains("`half`")
        );
    }

    #[test]
    fn what_is_missing_stays_missing() {
        let attention =
            Attention { scale: None, softcap: Some(0.1), causal: true, masked: false, biased: false };
        let json = serde_json::to_string(&attention).unwrap();
        assert_eq!(serde_json::from_str::<Attention>(&json).unwrap(), attention);
    }
}
