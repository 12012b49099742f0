//! The host's clock as the SDK wants it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::TimeSource;

use crate::host::Clock;

/// Signs with the host's time.
#[derive(Clone)]
pub(super) struct SdkClock(Arc<dyn Clock>);

impl SdkClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }
}

impl std::fmt::Debug for SdkClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SdkClock")
    }
}

impl TimeSource for SdkClock {
    fn now(&self) -> SystemTime {
        let since = self.0.now().0;
        UNIX_EPOCH + Duration::from_millis(u64::try_from(since).unwrap_or(0))
    }
}
