//! Tells a monitoring service that all is well, by fetching a URL, and by silence that it is not.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::board::Board;
use super::ping;
use crate::bucket::web::Proxies;
use crate::host::{Clock, Dial, UnixMillis};

/// How often it is looked at whether a beat is due.
const LOOK: Duration = Duration::from_secs(15);
/// Limit for one beat.
const SLOWEST_BEAT: Duration = Duration::from_secs(30);

/// What a heartbeat needs of its surroundings.
pub struct Heartbeat {
    /// The URL, `http://` or `https://`.
    pub url: Uri,
    /// Time between beats.
    pub interval: Duration,
    /// The databases.
    pub board: Board,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Outgoing connections.
    pub dial: Arc<dyn Dial>,
    /// What they go through.
    pub(crate) proxies: Proxies,
}

impl Heartbeat {
    /// Beats for ever. A beat that fails is logged, and tried again at the next look.
    pub async fn run(self) {
        let mut last_beat = None;
        loop {
            tokio::time::sleep(LOOK.min(self.interval)).await;
            let now = self.clock.now();
            if !is_due(&self.board, last_beat, now, self.interval) {
                continue;
            }
            match tokio::time::timeout(SLOWEST_BEAT, ping::get(&*self.dial, &self.proxies, &self.url)).await {
                Ok(Ok(())) => last_beat = Some(now),
                Ok(Err(error)) => tracing::warn!(%error, "heartbeat failed"),
                Err(_) => tracing::warn!(timeout = ?SLOWEST_BEAT, "heartbeat failed: no answer in time"),
            }
        }
    }
}

/// Whether to beat: the interval is over, and every configured database was in sync at a moment within the interval. One
/// that hangs while it is being started, or whose directory cannot be read, is not on the board.
fn is_due(board: &Board, last_beat: Option<UnixMillis>, now: UnixMillis, interval: Duration) -> bool {
    let millis = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
    // A clock that was set back must not silence the beat for long.
    let waited = last_beat.is_none_or(|last| now.0 - last.0 >= millis || now < last);
    let databases = board.statuses();
    let is_level = databases.iter().all(|(_, status)| status.is_level(now, interval));
    waited && board.is_complete() && !databases.is_empty() && is_level
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::ltx::Txid;
    use crate::sync::{Phase, Status, Work};

    fn status(phase: Phase, local: u64, remote: u64, last_sync: Option<i64>) -> Status {
        Status {
            phase,
            local_txid: Some(Txid(local)),
            replicated_txid: Some(Txid(remote)),
            last_sync: last_sync.map(UnixMillis),
            ..Status::default()
        }
    }

    fn board(databases: &[Status]) -> Board {
        let board = Board::default();
        for (number, status) in databases.iter().enumerate() {
            let (_, status) = tokio::sync::watch::channel(status.clone());
            board.add(format!("/{number}.db").into(), status, Arc::new(|_| None));
        }
        board
    }

    #[test]
    fn a_beat_means_that_every_database_is_in_sync() {
        let minute = Duration::from_secs(60);
        let now = UnixMillis(1_000_000);
        let due = |databases: &[Status], last| {
            let board = board(databases);
            board.set_complete(true);
            is_due(&board, last, now, minute)
        };
        let good = status(Phase::Replicating, 5, 5, Some(990_000));
        assert!(due(std::slice::from_ref(&good), None));
        assert!(due(std::slice::from_ref(&good), Some(UnixMillis(940_000))));
        assert!(!due(std::slice::from_ref(&good), Some(UnixMillis(940_001))), "too early");
        assert!(due(std::slice::from_ref(&good), Some(UnixMillis(2_000_000))), "the clock was set back");
        assert!(due(&[status(Phase::Replicating, 6, 5, Some(990_000))], None), "behind, but not for long");
        assert!(!due(&[status(Phase::Replicating, 6, 5, Some(100))], None), "behind for long");
        assert!(!due(&[status(Phase::Replicating, 5, 5, Some(100))], None), "nobody has looked for long");
        let mut failing = good.clone();
        failing.failures.note(Work::Upload, "away".to_owned(), &Error::new(ErrorKind::Transient, "away"));
        assert!(!due(&[good.clone(), failing], None), "one of them fails");
        assert!(!due(&[good, status(Phase::Starting, 5, 5, Some(990_000))], None));
        assert!(!due(&[], None), "nothing is replicated");
    }

    /// It used to beat for the others while one hung at its start.
    #[test]
    fn there_is_no_beat_while_one_may_be_missing() {
        let (now, minute) = (UnixMillis(1_000_000), Duration::from_secs(60));
        let board = board(&[status(Phase::Replicating, 5, 5, Some(990_000))]);
        assert!(!is_due(&board, None, now, minute), "not all have been started");
        board.set_complete(true);
        assert!(is_due(&board, None, now, minute));
        board.set_complete(false);
        assert!(!is_due(&board, None, now, minute), "a directory cannot be read");
    }
}
