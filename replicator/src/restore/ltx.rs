//! Restoring from LTX files: plan, fetch, apply, and plan again if files vanish on the way.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::apply::{Applier, State};
use super::fetch::{Fetcher, Object};
use super::listing::{self, Listing};
use super::moment::{self, Moment};
use super::options::Target;
use super::output::TempFile;
use super::plan::{self, File, NoPlan, Want};
use super::report::{Format, Plan, PlannedFile, Report, Restored, Step};
use super::{Context, REPLANS, finish};
use crate::error::{ErrorKind, Result};
use crate::ltx::{MIN_FILE_LEN, Txid};

/// Restores or, in a dry run, plans.
pub(super) async fn restore(context: Context<'_>, listing: Listing) -> Result<Report> {
    let started = Instant::now();
    let mut files = listing.ltx;
    let mut vanished = BTreeMap::<String, usize>::new();
    let mut applier = None;
    let mut bytes_fetched = 0;
    for attempt in 0.. {
        let done = async {
            let chosen = choose(context, &files, applier.as_ref()).await?;
            let plan = describe(&chosen);
            if context.options.dry_run {
                return Ok(None);
            }
            Ok(Some(()))
        };
    }
}
