//! Restores databases that do not exist, before their replication starts.

use crate::bucket::Opener;
use crate::config::Database;
use crate::error::Result;
use crate::host::Host;
use crate::restore::{self, Identities, LegacyOptions, NoProgress, Options, Report};

/// Restores a database if its file is absent. A replica that provably holds nothing is fine: this is the first start.
///
/// # Errors
/// Everything else that keeps the restore from success. The application must not start with an empty database then.
pub async fn if_absent(host: &Host, opener: &Opener, database: &Database) -> Result<()> {
    let path = &database.options.db;
    let bucket = opener.open(&database.replica.settings).await?;
    let identities: Vec<&str> = database.replica.age_identities.iter().map(|key| key.expose()).collect();
    let options = Options {
        if_db_not_exists: true,
        if_replica_exists: true,
        legacy: LegacyOptions { identities: Identities::parse(&identities)?, ..LegacyOptions::default() },
        ..Options::new(path)
    };
    let report = restore::run(host, bucket, options, &NoProgress).await;
    match report.map_err(|error| error.context(format!("cannot restore {}", path.display())))? {
        Report::OutputExists => {
            tracing::info!(path = %path.display(), "database exists, skipping restore");
        }
        Report::NoReplica => {
            tracing::info!(path = %path.display(), "no backup found, starting fresh");
        }
        Report::Restored(restored) => {
            let txid = restored.plan.txid.map(|txid| txid.to_string()).unwrap_or_default();
            tracing::info!(path = %path.display(), txid, bytes = restored.database_bytes, "restore completed");
        }
        Report::Planned(_) => {}
    }
    Ok(())
}
