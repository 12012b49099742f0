//! Repeating what a provider refuses for the moment.
//!
//! R2 and Google take one write a second of a key and answer 429 to the next, and of thousands of requests some are
//! answered 500 or 503 anywhere. Neither says what the endpoint does when it answers, and that is what checks ask.

use std::time::Duration;

use http::StatusCode;

use super::{Answer, Budget, Call, Client, ClientError};

/// The pause before the first repetition; each following one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Pauses grow to this, and `Retry-After` is heeded up to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Repetitions of a request that is refused for the moment.
const THROTTLED: u32 = 6;
/// Repetitions of a request that failed: a fault that stays is the endpoint's.
const FAILED: u32 = 2;

/// Which answers a request is repeated after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// 429 and 503: the provider asks to come later.
    WhenThrottled,
    /// These and what a server or a proxy says of its own troubles: the request must succeed, or fail in a way of its own.
    WhenFailed,
}

impl Repeat {
    /// Most repetitions after an answer with this status.
    fn times(self, status: StatusCode) -> u32 {
        match (status.as_u16(), self) {
            (429 | 503, _) => THROTTLED,
            (408 | 500 | 502 | 504, Self::WhenFailed) => FAILED,
            _ => 0,
        }
    }
}

impl Client {
    /// Sends a request as [`Client::send`] does, and again after a pause as long as the answer asks for it and the
    /// budget allows. Each attempt is charged.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_patiently(&self, call: &Call, repeat: Repeat) -> Result<Answer, ClientError> {
        let mut repeated = 0;
        loop {
            let answer = self.send(call).await?;
            let asked = answer.header("retry-after");
            if !wait(&self.budget, repeat, answer.status, asked, repeated).await {
                return Ok(answer);
            }
            repeated += 1;
        }
    }
}

/// Waits as long as it must before the next attempt; false if there is to be none.
pub(super) async fn wait(
    budget: &Budget,
    repeat: Repeat,
    status: StatusCode,
    retry_after: &str,
    repeated: u32,
) -> bool {
    if repeated >= repeat.times(status) {
        return false;
    }
    let Some(pause) = budget.repetition(|nth| pause(repeated, nth, retry_after)) else { return false };
    tokio::time::sleep(pause).await;
    true
}

/// Grows with the attempts, and differs between requests that were refused together, so that they do not come back
/// together: up to twice as long for the `nth` repetition of the run.
fn pause(repeated: u32, nth: u64, retry_after: &str) -> Duration {
    let least = FIRST_PAUSE.saturating_mul(1 << repeated.min(10));
    // A date, the header's other form, is not worth a parser: the pauses grow.
    let asked = Duration::from_secs(retry_after.trim().parse().unwrap_or(0));
    let pause = least.max(asked).min(LONGEST_PAUSE);
    pause + pause * u32::try_from(nth % 8).unwrap_or(0) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_the_moment_is_repeated() {
        let times = |repeat: Repeat| {
            [200, 400, 403, 408, 412, 429, 500, 501, 502, 503, 504]
                .map(|status| repeat.times(StatusCode::from_u16(status).unwrap()))
        };
        assert_eq!(times(Repeat::WhenThrottled), [0, 0, 0, 0, 0, THROTTLED, 0, 0, 0, THROTTLED, 0]);
        let failed = [0, 0, 0, FAILED, 0, THROTTLED, FAILED, 0, FAILED, THROTTLED, FAILED];
        assert_eq!(times(Repeat::WhenFailed), failed);
    }

    #[test]
    fn pauses_grow_spread_and_heed_the_server() {
        let millis = |repeated, nth, header| pause(repeated, nth, header).as_millis();
        assert_eq!([0, 1, 2, 5].map(|repeated| millis(repeated, 0, "")), [500, 1000, 2000, 8000]);
        assert_eq!([0, 1, 7, 8].map(|nth| millis(0, nth, "")), [500, 562, 937, 500]);
        assert_eq!(["0", "3", "3600", "soon"].map(|header| millis(0, 0, header)), [500, 3000, 8000, 500]);
    }
}
