//! When a level is due: once per wall-clock multiple of its interval, as Litestream does it.
//!
//! Only whether two times lie in the same interval matters, never which is later, so a clock that jumps in either
//! direction costs at most one early run.

use std::time::Duration;

use crate::host::UnixMillis;

/// Whether a level is due that was last looked at at `last` (`None`: not yet).
#[must_use]
pub fn is_due(last: Option<UnixMillis>, now: UnixMillis, interval: Duration) -> bool {
    last.is_none_or(|last| interval_number(last, interval) != interval_number(now, interval))
}

/// When the next interval begins.
#[must_use]
pub fn next_boundary(now: UnixMillis, interval: Duration) -> UnixMillis {
    let next = interval_number(now, interval).saturating_add(1);
    UnixMillis(next.saturating_mul(millis(interval)))
}

fn interval_number(time: UnixMillis, interval: Duration) -> i64 {
    time.0.div_euclid(millis(interval))
}

fn millis(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn due_once_per_multiple_of_the_interval() {
        let due = |last: i64, now: i64| is_due(Some(UnixMillis(last)), UnixMillis(now), INTERVAL);
        assert!(is_due(None, UnixMillis(0), INTERVAL));
        assert!(!due(30_000, 59_999));
        assert!(due(29_999, 30_000), "however short ago, a boundary lies between");
        assert!(due(31_000, 29_000), "the clock went back over a boundary");
        assert!(!due(31_000, 30_500));
        assert_eq!(next_boundary(UnixMillis(31_000), INTERVAL), UnixMillis(60_000));
        assert_eq!(next_boundary(UnixMillis(60_000), INTERVAL), UnixMillis(90_000));
        assert_eq!(next_boundary(UnixMillis(-1), INTERVAL), UnixMillis(0));
    }

    proptest! {
        #[test]
        fn never_due_twice_and_always_due_at_the_next_boundary(now: i64, last: Option<i64>, seconds in 0_u64..1_000_000) {
            let interval = Duration::from_secs(seconds);
            let (now, last) = (UnixMillis(now), last.map(UnixMillis));
            if is_due(last, now, interval) {
                prop_assert!(!is_due(Some(now), now, interval));
            }
            let next = next_boundary(now, interval);
            prop_assert!(next >= now);
            prop_assert!(next.0 == i64::MAX || next > now && is_due(Some(now), next, interval));
        }
    }
}
