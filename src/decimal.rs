//! Decimal numbers as texts spell them: whether two spellings are one number, and the integer next to one.

/// A decimal number without its spelling: its digits stand behind a point that is moved by `exponent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Without zeros at either end; none at all for zero.
    digits: Vec<u8>,
    exponent: i64,
}

/// The most digits that an exponent may have: no number of a database needs more.
const EXPONENT_DIGITS: usize = 6;

impl Decimal {
    /// Reads a number such as `7`, `-1.50`, `.5` or `1e3`, perhaps between blanks.
    pub fn read(text: &[u8]) -> Option<Decimal> {
        let text = text.trim_ascii();
        let (negative, unsigned) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let at = unsigned.iter().position(|b| matches!(b, b'e' | b'E'));
        let (mantissa, exponent) = match at {
            Some(at) => (&unsigned[..at], read_exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
            Some(dot) => (&mantissa[..dot], &mantissa[dot + 1..]),
            None => (mantissa, &[][..]),
        };
        let all = [whole, fraction].concat();
        if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let Some(first) = all.iter().position(|b| *b != b'0') else {
            return Some(Decimal { negative: false, digits: Vec::new(), exponent: 0 });
        };
        let last = all.iter().rposition(|b| *b != b'0').unwrap_or(first);
        // 0.d₁d₂… · 10^exponent
        let exponent = exponent + whole.len() as i64 - first as i64;
        Some(Decimal { negative, digits: all[first..=last].to_vec(), exponent })
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Whether it has no fraction.
    pub fn is_whole(&self) -> bool {
        self.digits.len() as i64 <= self.exponent || self.digits.is_empty()
    }

    /// The integer next to it, away from zero where two are as near; one beyond 64 bits becomes the
    /// last one there.
    pub fn rounded(&self) -> i64 {
        let Ok(places) = usize::try_from(self.exponent) else { return 0 };
        let beyond = if self.negative { i64::MIN } else { i64::MAX };
        // 10^19 has more than 64 bits
        if places > 19 {
            return if self.digits.is_empty() { 0 } else { beyond };
        }
        let digit = |n: usize| i128::from(self.digits.get(n).map_or(0, |b| b - b'0'));
        let whole = (0..places).fold(0_i128, |sum, n| sum * 10 + digit(n));
        let whole = whole + i128::from(digit(places) >= 5);
        i64::try_from(if self.negative { -whole } else { whole }).unwrap_or(beyond)
    }

    /// The integer that it is, if 64 bits hold it.
    pub fn integer(&self) -> Option<i64> {
        let next = self.rounded();
        (self.is_whole() && Decimal::read(next.to_string().as_bytes()).as_ref() == Some(self))
            .then_some(next)
    }

    /// How many digits it has before the point.
    pub fn whole_digits(&self) -> i64 {
        self.exponent.max(0)
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let short = (1..=EXPONENT_DIGITS).contains(&digits.len());
    let plain = short && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Decimal {
        Decimal::read(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn one_number_has_many_spellings() {
        for spellings in [
            &["1.1", "1.10", "+1.1", " 01.1 ", "11e-1", "0.0011e+3", "1.1E0"][..],
            &["0", "-0", "0.00", "0e5", ".0", "0."],
            &["1000", "1e3", "1000.0", ".1e4"],
            &["-0.5", "-.5", "-5e-1"],
        ] {
            for other in spellings {
                assert_eq!(read(spellings[0]), read(other), "{other}");
            }
        }
        assert_ne!(read("1.1"), read("-1.1"));
        assert_ne!(read("1.1"), read("11"));
    }

    #[test]
    fn a_text_that_is_no_number_is_none() {
        for text in
            ["", " ", ".", "-", "1e", "1e+", "1_000", "0x1f", "1 2", "NaN", "1.2.3", "1e9999999"]
        {
            assert_eq!(Decimal::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_next_integer_is_rounded_away_from_zero() {
        for (text, next, exact) in [
            ("7.00", 7, true),
            ("1.5", 2, false),
            ("-1.5", -2, false),
            ("0.49", 0, false),
            ("0.05", 0, false),
            ("9223372036854775807", i64::MAX, true),
            ("-9223372036854775808", i64::MIN, true),
            ("9223372036854775808", i64::MAX, false),
            ("1e30", i64::MAX, false),
            ("-1e30", i64::MIN, false),
        ] {
            assert_eq!(read(text).rounded(), next, "{text}");
            assert_eq!(read(text).integer(), exact.then_some(next), "{text}");
        }
    }
}
