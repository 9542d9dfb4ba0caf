//! Decimals as schemas carry them, a whole number and a scale, written out exactly.

use std::fmt;

use super::fault::Fault;

/// Digits behind the point beyond this are a mistake, not a number.
const MAX_SCALE: u32 = 1000;

/// `unscaled / 10^scale`. Displays as `-12.50`: all digits of the scale, never an exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    unscaled: i128,
    scale: u32,
}

impl Decimal {
    /// The number whose unscaled value is written big-endian in two's complement.
    pub fn from_bytes(bytes: &[u8], scale: i64) -> Result<Decimal, Fault> {
        let scale = u32::try_from(scale)
            .ok()
            .filter(|scale| *scale <= MAX_SCALE);
        let scale = scale
            .ok_or_else(|| Fault::new(format!("a decimal's scale is 0 to {MAX_SCALE} here")))?;
        let sign = if bytes.first().is_some_and(|byte| *byte >= 0x80) {
            0xff
        } else {
            0
        };
        let padding = bytes.iter().take_while(|byte| **byte == sign).count();
        let digits = &bytes[padding..];
        let mut whole = [sign; 16];
        let room = whole.len().checked_sub(digits.len());
        let room = room.ok_or_else(|| Fault::new("a decimal of more than 38 digits"))?;
        whole[room..].copy_from_slice(digits);
        let unscaled = i128::from_be_bytes(whole);
        if (unscaled < 0) != (sign != 0) {
            return Err(Fault::new("a decimal of more than 38 digits"));
        }
        Ok(Decimal { unscaled, scale })
    }

    /// The number itself, if it has no place for a fraction.
    pub fn as_integer(self) -> Option<i128> {
        (self.scale == 0).then_some(self.unscaled)
    }

    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        // Through the text, since that is rounded once only.
        let text = self.to_string();
        text.parse().expect("digits and a point are a float")
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = self.scale as usize;
        let digits = format!("{:0>1$}", self.unscaled.unsigned_abs(), scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], scale: i64) -> String {
        match Decimal::from_bytes(bytes, scale) {
            Ok(decimal) => decimal.to_string(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn all_digits_of_the_scale_are_written() {
        assert_eq!(text(&[4, 0xe2], 2), "12.50");
        assert_eq!(text(&[0xff], 2), "-0.01");
        assert_eq!(text(&[0xff, 0xff, 0xff], 0), "-1");
        assert_eq!(text(&[], 3), "0.000");
        assert_eq!(text(&[0, 0x80], 0), "128");
        assert_eq!(text(&[0x80], 0), "-128");
        assert_eq!(text(&i128::MIN.to_be_bytes(), 0), i128::MIN.to_string());
        assert_eq!(text(&i128::MAX.to_be_bytes(), 0), i128::MAX.to_string());
        assert_eq!(
            Decimal::from_bytes(&[1], 1).unwrap().to_f64().to_string(),
            "0.1"
        );
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut long = vec![1];
        long.extend([0; 16]);
        assert_eq!(text(&long, 0), "a decimal of more than 38 digits");
        long[0] = 0;
        long[1] = 0x80;
        assert_eq!(text(&long, 0), "a decimal of more than 38 digits");
        assert_eq!(text(&[1], -1), "a decimal's scale is 0 to 1000 here");
        assert_eq!(text(&[1], i64::MAX), "a decimal's scale is 0 to 1000 here");
    }
}
