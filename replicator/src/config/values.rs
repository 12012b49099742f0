//! Scalars as Litestream's configuration spells them: Go durations, humanised sizes, YAML 1.1 booleans and integers.

use std::time::Duration;

/// A duration read from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoDuration {
    /// Signed length; Go allows negative durations, their users mostly do not.
    pub nanos: i64,
    /// It was a bare integer, which Go reads as nanoseconds and people mean as seconds.
    pub bare_integer: bool,
}

impl GoDuration {
    /// The duration, unless it is negative.
    #[must_use]
    pub fn non_negative(self) -> Option<Duration> {
        u64::try_from(self.nanos).ok().map(Duration::from_nanos)
    }
}

/// Reads `1h30m`, `500ms`, `1.5s`, or a bare integer of nanoseconds.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn duration(text: &str) -> Result<GoDuration, String> {
    if let Ok(nanos) = integer(text) {
        return Ok(GoDuration { nanos, bare_integer: nanos != 0 });
    }
    let complaint = |why: &str| {
        format!(
            "{text:?} is not a duration: {why}; write numbers with units, such as 10s, 1m30s, 500ms or 24h"
        )
    };
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest.is_empty() {
        return Err(complaint("it is empty"));
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(complaint("a unit is missing")),
            "d" => return Err(complaint("there is no unit for days, use h")),
            other => return Err(complaint(&format!("{other:?} is not a unit"))),
        };
        nanos += scaled(number, scale).ok_or_else(|| complaint("the number is malformed"))?;
        if nanos > i128::from(i64::MAX) {
            return Err(complaint("it is longer than 292 years"));
        }
        rest = tail;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).expect("checked against i64::MAX");
    Ok(GoDuration { nanos, bare_integer: false })
}

/// `number` (digits with at most one point) times `scale`, cut to a whole number.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let mut value = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? * scale };
    let mut unit = scale;
    for digit in fraction.bytes().take(18) {
        value += i128::from(digit - b'0') * unit / 10;
        unit /= 10;
    }
    Some(value)
}

/// Reads `10MB` (10⁷), `10MiB` (10·2²⁰), `1.5GB`, or a plain number of bytes.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn size(text: &str) -> Result<u64, String> {
    let complaint =
        || format!("{text:?} is not a size; write bytes, or a number with a unit such as 10MB or 10MiB");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let power = |base: i128, exponent| base.pow(exponent);
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => power(1000, 1),
        "m" | "mb" => power(1000, 2),
        "g" | "gb" => power(1000, 3),
        "t" | "tb" => power(1000, 4),
        "p" | "pb" => power(1000, 5),
        "ki" | "kib" => power(1024, 1),
        "mi" | "mib" => power(1024, 2),
        "gi" | "gib" => power(1024, 3),
        "ti" | "tib" => power(1024, 4),
        "pi" | "pib" => power(1024, 5),
        _ => return Err(complaint()),
    };
    let bytes = scaled(&number.replace(',', ""), scale).ok_or_else(complaint)?;
    i64::try_from(bytes).ok().and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(complaint)
}

/// Reads the booleans of YAML 1.1, which Litestream's parser knows: `yes` and `on` count.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Ok(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Reads an integer of YAML 1.1: decimal, `0x`, `0b`, octal with a leading `0` (or `0o`), `_` between digits.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn integer(text: &str) -> Result<i64, String> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.as_bytes().first() {
        Some(b'-') => (true, &plain[1..]),
        Some(b'+') => (false, &plain[1..]),
        _ => (false, plain.as_str()),
    };
    let (radix, digits) = if let Some(digits) = digits.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = digits.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = digits.strip_prefix("0o") {
        (8, digits)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let digits_only = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let value = if digits_only { i128::from_str_radix(digits, radix).ok() } else { None };
    value
        .and_then(|value| i64::try_from(if negative { -value } else { value }).ok())
        .ok_or_else(|| format!("{text:?} is not a whole number"))
}

/// Writes a duration as Go prints it: `1m0s`, `24h0m0s`, `500ms`, `1.5s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |unit: u128, name: &str| {
        let whole = nanos / unit;
        let digits = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() { format!("{whole}{name}") } else { format!("{whole}.{digits}{name}") }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
            let below_minute = Duration::new(duration.as_secs() % 60, duration.subsec_nanos()).as_nanos();
            let seconds = {
                let digits = format!("{:09}", below_minute % 1_000_000_000);
                let digits = digits.trim_end_matches('0');
                let point = if digits.is_empty() { "" } else { "." };
                format!("{}{point}{digits}s", below_minute / 1_000_000_000)
            };
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Writes a size as Litestream's tables do: SI units, one decimal below ten (`45 kB`, `4.1 MB`, `0 B`).
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut exponent = 0;
    while exponent + 1 < UNITS.len() && bytes >= 1000_u64.pow(u32::try_from(exponent).expect("below 7") + 1) {
        exponent += 1;
    }
    let unit = 1000_u64.pow(u32::try_from(exponent).expect("below 7"));
    // Tenths of the unit, rounded half up.
    let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[exponent])
    } else {
        // Go's %.0f rounds a half to even.
        let (whole, rest) = (tenths / 10, tenths % 10);
        let up = rest > 5 || (rest == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(up), UNITS[exponent])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_in_go() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("1m30s", 90_000_000_000),
            ("24h", 86_400_000_000_000),
            ("500ms", 500_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-1s", -1_000_000_000),
            ("+1s", 1_000_000_000),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("3ns", 3),
            ("10", 10),
            ("1_000", 1_000),
            ("0.000000001s", 1),
        ] {
            assert_eq!(duration(text).map(|read| read.nanos), Ok(nanos), "{text}");
        }
        assert!(duration("10").unwrap().bare_integer);
        assert!(!duration("0").unwrap().bare_integer, "zero means zero in any unit");
        assert_eq!(duration("-1s").unwrap().non_negative(), None);
    }

    #[test]
    fn bad_durations_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("-", "empty"),
            ("1d", "days"),
            ("1.5", "unit is missing"),
            ("1.2.3s", "malformed"),
            ("s", "malformed"),
            ("1fortnight", "not a unit"),
            ("10 s", "not a unit"),
            ("9999999h", "292 years"),
            ("99999999999999999999s", "malformed"),
        ] {
            let complaint = duration(text).unwrap_err();
            assert!(complaint.contains(reason), "{text}: {complaint}");
        }
    }

    #[test]
    fn sizes_are_read_as_humanised() {
        for (text, bytes) in [
            ("0", 0),
            ("5242880", 5_242_880),
            ("10MB", 10_000_000),
            ("10MiB", 10_485_760),
            ("10 mib", 10_485_760),
            ("5M", 5_000_000),
            ("1.5GB", 1_500_000_000),
            ("100B", 100),
            ("1,024kb", 1_024_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "-1MB", "10XB", "1..5MB", "99999PB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_and_booleans_are_those_of_yaml_1_1() {
        for (text, value) in [
            ("0600", 0o600),
            ("0o600", 0o600),
            ("0x10", 16),
            ("0b11", 3),
            ("-5", -5),
            ("1_000", 1000),
            ("0", 0),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for text in ["", "-", "0x", "1.0", "08", "--1", "+-1", "99999999999999999999"] {
            assert!(integer(text).is_err(), "{text}");
        }
        assert_eq!((boolean("yes"), boolean("off")), (Ok(true), Ok(false)));
        assert!(boolean("2").is_err());
    }

    #[test]
    fn durations_and_sizes_print_as_in_go() {
        for (text, expected) in [
            ("0", "0s"),
            ("1s", "1s"),
            ("60s", "1m0s"),
            ("24h", "24h0m0s"),
            ("500ms", "500ms"),
            ("1500ms", "1.5s"),
            ("1500us", "1.5ms"),
            ("61.05s", "1m1.05s"),
            ("7ns", "7ns"),
        ] {
            assert_eq!(format_duration(duration(text).unwrap().non_negative().unwrap()), expected);
        }
        for (bytes, expected) in [
            (0, "0 B"),
            (9, "9 B"),
            (45, "45 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (4_120, "4.1 kB"),
            (45_352, "45 kB"),
            (44_500, "44 kB"),
            (45_500, "46 kB"),
            (82_854_982, "83 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(format_size(bytes), expected);
        }
    }
}
