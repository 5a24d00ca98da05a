//! Numbers as JSON writes them, and whether every database can hold them.

use super::JsonIssues;

/// The longest number token of a portable text, in bytes.
const MAX_NUMBER_BYTES: usize = 400;
/// The largest exponent of a portable text as written, with either sign.
const MAX_EXPONENT: usize = 308;
/// Above this many digits and exponent together PostgreSQL's `numeric` may not hold a number.
const MAX_NUMERIC_DIGITS: usize = 16_000;

/// Reads the number at `start`: its end and the issues of its size, or where it stops being a number.
#[inline(always)]
pub(super) fn read_number(text: &[u8], start: usize) -> Result<(usize, JsonIssues), usize> {
    let first = start + usize::from(text.get(start) == Some(&b'-'));
    let end = skip_digits(text, first);
    if end == first {
        return Err(end);
    }
    if text[first] == b'0' && end - first > 1 {
        return Err(first + 1);
    }
    // Short integers, which most numbers are, cannot be out of range.
    if end - first <= MAX_EXPONENT && !matches!(text.get(end), Some(b'.' | b'e' | b'E')) {
        return Ok((end, JsonIssues::default()));
    }
    read_real(text, start, end)
}

/// Reads the rest of a number whose integer part ends at `int_end`.
fn read_real(text: &[u8], start: usize, int_end: usize) -> Result<(usize, JsonIssues), usize> {
    let mut end = int_end;
    if text.get(end) == Some(&b'.') {
        end = some_digits(text, end + 1)?;
    }
    let mantissa = end - start;
    let mut exponent = 0;
    if let Some(b'e' | b'E') = text.get(end) {
        let digits = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        end = some_digits(text, digits)?;
        exponent = text[digits..end].iter().fold(0_usize, |value, digit| {
            value.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        });
    }
    Ok((end, size_issues(&text[start..end], mantissa, exponent)))
}

/// The issues of the size of a number; `mantissa` is how many bytes come before the exponent.
fn size_issues(token: &[u8], mantissa: usize, exponent: usize) -> JsonIssues {
    let mut issues = JsonIssues::default();
    if mantissa.saturating_add(exponent) > MAX_NUMERIC_DIGITS {
        issues.insert(JsonIssues::HUGE_NUMBER);
    }
    if token.len() > MAX_NUMBER_BYTES
        || exponent > MAX_EXPONENT
        || !is_finite(token, mantissa, exponent)
    {
        issues.insert(JsonIssues::NUMBER);
    }
    issues
}

/// Whether the number fits into a double without becoming infinite.
fn is_finite(token: &[u8], mantissa: usize, exponent: usize) -> bool {
    // Less than 1e308 whatever the digits are: no need to convert.
    mantissa + exponent <= MAX_EXPONENT
        || std::str::from_utf8(token).is_ok_and(|token| token.parse().is_ok_and(f64::is_finite))
}

/// The end of one or more digits, or where a digit is missing.
fn some_digits(text: &[u8], start: usize) -> Result<usize, usize> {
    let end = skip_digits(text, start);
    if end > start { Ok(end) } else { Err(start) }
}

#[inline(always)]
fn skip_digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OK, scan};
    use super::*;

    #[test]
    fn numbers_are_portable_up_to_their_limits() {
        use JsonIssues as F;
        let digits = |count: usize| "1".repeat(count);
        let (number, huge) = (F::NUMBER, F::NUMBER.union(F::HUGE_NUMBER));
        let cases = [
            ("1e308".into(), OK),
            ("1e309".into(), number),
            ("1e-308".into(), OK),
            ("1e-309".into(), number),
            ("0e309".into(), number),
            ("1E+0000000308".into(), OK),
            ("1.7976931348623157e308".into(), OK),
            ("1.7976931348623159e308".into(), number),
            ("-2e308".into(), number),
            ("12e307".into(), OK),
            ("12e308".into(), number),
            (digits(308), OK),
            (digits(309), OK),
            ("9".repeat(309), number),
            (digits(310), number),
            (format!("-{}", digits(310)), number),
            (format!("{}e-100", digits(310)), OK),
            (format!("{}.{}", digits(300), digits(99)), OK),
            (format!("{}.{}", digits(300), digits(100)), number),
            (format!("0.{}", digits(398)), OK),
            (format!("0.{}", digits(399)), number),
            (format!("1e{}1", "0".repeat(397)), OK),
            (format!("1e{}1", "0".repeat(398)), number),
            ("1e15999".into(), number),
            ("1e16000".into(), huge),
            ("1e-16383".into(), huge),
            ("1e99999999999999999999999999".into(), huge),
            (digits(16_000), number),
            (digits(16_001), huge),
            (format!("0.{}", "0".repeat(15_999)), huge),
        ];
        for (token, expected) in cases {
            assert_eq!(scan(format!("{{\"a\":{token}}}")), expected, "{token}");
            assert_eq!(scan(format!("{{\"a\":[{token}]}}")), expected, "{token}");
        }
    }
}
