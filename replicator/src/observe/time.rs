//! Times as text, in UTC.

use crate::host::UnixMillis;

fn format(time: UnixMillis, pattern: &str) -> String {
    // Out of range means year 9999 and later; no clock that is worth printing.
    jiff::Timestamp::from_millisecond(time.0)
        .map_or_else(|_| time.0.to_string(), |timestamp| timestamp.strftime(pattern).to_string())
}

/// `2023-11-14T22:13:20.123Z`
#[must_use]
pub fn rfc3339_millis(time: UnixMillis) -> String {
    format(time, "%Y-%m-%dT%H:%M:%S.%3fZ")
}

/// `2023-11-14T22:13:20Z`
#[must_use]
pub fn rfc3339(time: UnixMillis) -> String {
    format(time, "%Y-%m-%dT%H:%M:%SZ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_in_utc() {
        assert_eq!(rfc3339_millis(UnixMillis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339_millis(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(UnixMillis(1_700_000_000_999)), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(UnixMillis(i64::MAX)), i64::MAX.to_string());
    }
}
