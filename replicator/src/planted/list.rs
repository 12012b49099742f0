//! All planted bugs, in one table.
//!
//! `source` names the failure of a real replicator that the bug repeats: an issue or pull request of Litestream where
//! one is public, or what was seen when its binaries were run; `ours`, where it was found, or empty for one of our own making.

/// Where a bug is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// From the live database to a staged file.
    Capture,
    /// Going on after a time in which nobody watched.
    Resume,
    /// From staged files to the store, and what is claimed about it.
    Upload,
    /// Merges.
    Compaction,
    /// Snapshots and deletion.
    Retention,
    /// From the store to a database file.
    Restore,
    /// The S3 adapter.
    S3,
}

/// Lane of the simulator in which a bug can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Without HTTP.
    Lite,
    /// With an S3 server across a network.
    Full,
}

/// One planted bug.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// Its name, as at its place in the code.
    pub name: &'static str,
    /// Where it is.
    pub part: Part,
    /// What it does wrong.
    pub breaks: &'static str,
    /// The real failure it repeats.
    pub source: &'static str,
    /// The oracle expected to object.
    pub oracle: &'static str,
}

impl Bug {
    /// Where it can show.
    #[must_use]
    pub fn lane(&self) -> Lane {
        if self.part == Part::S3 { Lane::Full } else { Lane::Lite }
    }
}

const fn bug(
    part: Part,
    name: &'static str,
    oracle: &'static str,
    breaks: &'static str,
    source: &'static str,
) -> Bug {
    Bug { name, part, breaks, source, oracle }
}

/// Every bug, by part.
pub const BUGS: &[Bug] = &[
    bug(
        Part::Capture,
        "reused-log-space",
        "catches-up",
        "a restarted log that is not yet longer than the old one is taken for unchanged",
        "litestream#1083: writes that reuse WAL space are never seen",
    ),
    bug(
        Part::Capture,
        "growth-gap",
        "durable",
        "pages by which the file grew without logging them are left out",
        "litestream#1281, #1292",
    ),
    bug(
        Part::Capture,
        "lock-page-is-a-page",
        "catches-up",
        "the page of SQLite's lock bytes, at 1 GiB, is stored when the file grows over it",
        "",
    ),
    bug(
        Part::Capture,
        "oldest-frame-wins",
        "restore-valid",
        "of several versions of a page in one batch the oldest is stored",
        "",
    ),
    bug(
        Part::Capture,
        "gap-in-hand-over",
        "restore-valid",
        "the old reader ends before the new one begins, so that for a moment nothing is pinned",
        "litestream#1164, #1309: frames slip away between copy and checkpoint",
    ),
    bug(
        Part::Capture,
        "checkpoint-before-copy",
        "restore-valid",
        "a checkpoint cycle does not copy the rest of the log first",
        "litestream#1164, #1220",
    ),
    bug(
        Part::Capture,
        "pin-ahead-of-the-copy",
        "restore-valid",
        "a checkpoint cycle begins although what the pin saw is not copied: it may be copied back and overwritten",
        "ours: seed 2000459",
    ),
    bug(
        Part::Capture,
        "two-of-us",
        "alone",
        "a second replicator on the same machine works with the same local state",
        "ours: nothing kept a second one out",
    ),
    bug(
        Part::Capture,
        "image-without-the-log",
        "restore-valid",
        "full copies read the database file and not the log",
        "litestream#521: snapshot and log position do not belong together",
    ),
    bug(
        Part::Capture,
        "snapshot-behind-its-name",
        "restore-valid",
        "a snapshot bears the transaction id of a later state",
        "litestream#1337: snapshot races with a busy writer",
    ),
    bug(
        Part::Capture,
        "replaced-file-unnoticed",
        "catches-up",
        "the file behind the path is never compared with the open one",
        "seen with 0.3.13 to 0.5.17: a replaced database is not followed; near litestream#1209",
    ),
    bug(
        Part::Capture,
        "deleted-wal-index-unnoticed",
        "durable",
        "the WAL-index beside the database is never compared with the one in use",
        "ours: found by review",
    ),
    bug(
        Part::Capture,
        "descriptor-closed",
        "unharmed",
        "the database file is opened again while SQLite has it open, and closing the first descriptor drops SQLite's locks",
        "the trap of POSIX locks, https://www.sqlite.org/howtocorrupt.html",
    ),
    bug(
        Part::Capture,
        "writers-wait",
        "unharmed",
        "every checkpoint takes the write lock",
        "litestream#1290: writers blocked by sync work",
    ),
    bug(
        Part::Resume,
        "resume-on-trust",
        "restore-valid",
        "after a restart, the log is not asked to prove that it continues",
        "0.5.17 after kill -9: frames behind a restarted log are never read; litestream#752",
    ),
    bug(
        Part::Resume,
        "last-page-not-compared",
        "restore-valid",
        "the comparison after lost continuity leaves out the last page",
        "",
    ),
    bug(
        Part::Resume,
        "table-never-shrinks",
        "restore-valid",
        "checksums of pages that were cut off stay in the table",
        "",
    ),
    bug(
        Part::Resume,
        "ids-from-local-state",
        "catches-up",
        "without local state, transaction ids begin at 1 again",
        "litestream#781: new writes never leave the machine",
    ),
    bug(
        Part::Upload,
        "claim-for-half-a-log",
        "durable",
        "each of the files that a long log becomes is acknowledged as if it held all of it",
        "found here (seed 102456)",
    ),
    bug(
        Part::Resume,
        "claim-for-old-files",
        "durable",
        "files staged before a restart are acknowledged as if they held everything up to the restart",
        "found here, see cases/",
    ),
    bug(
        Part::Resume,
        "claim-for-replaced-file",
        "durable",
        "what is copied from the old file is acknowledged although another has its name",
        "found here, see cases/",
    ),
    bug(
        Part::Resume,
        "queue-outlives-session",
        "honest",
        "staged files of the last session stay in the upload queue",
        "",
    ),
    bug(
        Part::Upload,
        "claim-before-upload",
        "durable",
        "a file is acknowledged when its upload begins",
        "litestream#1457: position ahead of the store",
    ),
    bug(
        Part::Upload,
        "same-id-same-transaction",
        "restore-valid",
        "whether the newest transaction of both sides is the same file is not looked at before the chain goes on",
        "",
    ),
    bug(
        Part::Resume,
        "attempt-leaves-the-chain",
        "restore-valid",
        "the old chain goes on behind an attempt at a full copy, under the same transaction id",
        "ours: seed 40038788",
    ),
    bug(
        Part::Upload,
        "gives-way-to-a-follower",
        "restore-valid",
        "a full copy is withdrawn although the rival behind it goes on from it",
        "ours: seed 40010674",
    ),
    bug(
        Part::Upload,
        "silence-is-no-risk",
        "catches-up",
        "after a silence as long as the retention of level 0 the store is not asked whether somebody else went on",
        "ours: seed 3002247",
    ),
    bug(
        Part::Upload,
        "snapshot-before-its-transaction",
        "restore-valid",
        "a snapshot is published although its newest transaction is only staged, and may turn out to be somebody else's",
        "ours: seed 4002184",
    ),
    bug(
        Part::Upload,
        "claim-after-a-failed-look",
        "durable",
        "a tick claims what is so after it looked, and claims it although it could not look",
        "ours: seed 4015384",
    ),
    bug(
        Part::Upload,
        "copies-skip-ids",
        "catches-up",
        "a full copy goes above the ids of files that are only staged, and leaves ids out that a rival then uses",
        "ours: seeds 4013378 and 5001321",
    ),
    bug(
        Part::Resume,
        "asks-for-sixteen-ids",
        "unit test",
        "a full copy goes above everything although a rival is publishing the ids between",
        "ours: seed 50004604",
    ),
    bug(
        Part::Resume,
        "strangers-believed",
        "restore-valid",
        "a snapshot that appears above the running chain is taken for its own",
        "ours: seed 100032587",
    ),
    bug(
        Part::Resume,
        "snapshots-left-above",
        "catches-up",
        "a full copy goes below the snapshot that an earlier attempt left, and restores give that one's state",
        "ours: seed 52061338",
    ),
    bug(
        Part::Resume,
        "resume-on-a-complete-log",
        "restore-valid",
        "copying goes on in a log whose uncopied frames are all copied back, so that it may restart without them",
        "ours: found by review",
    ),
    bug(
        Part::Upload,
        "failed-upload-skipped",
        "durable",
        "an upload that failed is not repeated",
        "litestream#1151, #1155: permanent hole after a failed upload",
    ),
    bug(
        Part::Upload,
        "claim-without-a-look",
        "durable",
        "an idle tick claims that everything is replicated without looking for new commits",
        "",
    ),
    bug(
        Part::Upload,
        "stop-without-last-copy",
        "honest",
        "a stop does not copy what was committed last",
        "litestream#436: final sync skipped",
    ),
    bug(
        Part::Upload,
        "stop-tells-no-failure",
        "honest",
        "a stop reports success although the store lacks something",
        "0.5.17 exits with 0 after a failed final sync; litestream#904",
    ),
    bug(
        Part::Upload,
        "overwrites",
        "durable",
        "objects are written without the condition that their key is free",
        "litestream#1119, #454: two replicators, one path",
    ),
    bug(
        Part::Upload,
        "foreign-object-is-ours",
        "durable",
        "an object with other bytes under our key passes for an earlier attempt",
        "litestream#1457",
    ),
    bug(
        Part::Compaction,
        "oldest-input-wins",
        "restore-valid",
        "of several versions of a page a merge keeps the oldest",
        "",
    ),
    bug(
        Part::Compaction,
        "merge-never-shrinks",
        "restore-valid",
        "a merged file has the size of its largest input",
        "litestream#875: a shrink inside one window",
    ),
    bug(
        Part::Compaction,
        "merge-has-first-time",
        "point-in-time",
        "a merged file has the time of its first input",
        "",
    ),
    bug(
        Part::Compaction,
        "base-in-every-level",
        "budget",
        "the first merge into a level copies the whole database",
        "litestream#1510",
    ),
    bug(
        Part::Retention,
        "uncompacted-files-expire",
        "restore-valid",
        "level-0 files expire although no merged file holds them",
        "litestream#771: retention removed transaction files still needed",
    ),
    bug(
        Part::Retention,
        "any-snapshot-is-old",
        "point-in-time",
        "history before the newest snapshot expires at once",
        "litestream#251: retention works from the wrong snapshot",
    ),
    bug(
        Part::Retention,
        "links-expire",
        "restore-valid",
        "level-0 files that link files of higher levels expire",
        "litestream#760",
    ),
    bug(
        Part::Retention,
        "deletes-by-first-id",
        "hygiene",
        "the key of a deletion is built from the wrong end of the range",
        "litestream#693",
    ),
    bug(
        Part::Retention,
        "refused-deletes-forgotten",
        "hygiene",
        "a refused deletion counts as done",
        "litestream#976, #981",
    ),
    bug(
        Part::Retention,
        "listing-forgets-what-came-meanwhile",
        "hygiene",
        "what is published while the bucket is listed is forgotten",
        "ours: seed 9012467",
    ),
    bug(
        Part::Retention,
        "snapshot-of-nothing-new",
        "idle",
        "snapshots are taken although nothing was written",
        "litestream#1165, #896",
    ),
    bug(
        Part::Restore,
        "no-second-plan",
        "durable",
        "an object that vanishes under a restore ends it",
        "litestream#1270, #1307",
    ),
    bug(
        Part::Restore,
        "gap-unnoticed",
        "damage",
        "the newest state is what lies before a gap",
        "0.3.13 restores silently shortened data; litestream#1230",
    ),
    bug(
        Part::Restore,
        "checksum-ignored",
        "damage",
        "the file checksum is not compared",
        "litestream#1431: a damaged index read as valid",
    ),
    bug(
        Part::Restore,
        "restored-file-never-shrinks",
        "restore-valid",
        "pages that a later transaction cut off stay in the restored file",
        "",
    ),
    bug(
        Part::Restore,
        "moment-rounds-up",
        "point-in-time",
        "a point in time gives the first state after it",
        "",
    ),
    bug(
        Part::Restore,
        "moment-on-trust",
        "point-in-time",
        "the times between which a state was found are believed without the checksum of their files",
        "ours: seed 6024907",
    ),
    bug(
        Part::Restore,
        "dated-by-its-name",
        "point-in-time",
        "a file dates the state of its number, although it is of another state",
        "ours: seed 51002413",
    ),
    bug(
        Part::Restore,
        "smallest-full-copy",
        "restore-valid",
        "of two full copies of one name the smaller is restored, though it may be one of a failed attempt",
        "ours: seed 20000137",
    ),
    bug(
        Part::Restore,
        "moments-of-level-0-only",
        "point-in-time",
        "a point in time is looked for among level-0 files only",
        "litestream#1038, #1056",
    ),
    bug(
        Part::Restore,
        "restore-not-synced",
        "restore-valid",
        "the restored file is not synced before it gets its name",
        "litestream#1342",
    ),
    bug(
        Part::Restore,
        "restored-name-not-synced",
        "restore-valid",
        "the directory of the restored file is not synced",
        "litestream#1342",
    ),
    bug(
        Part::Restore,
        "stale-log-left",
        "restore-valid",
        "a WAL beside the output is left there and replayed into the restored database",
        "0.5.17 when only the database is gone; litestream#1254",
    ),
    bug(
        Part::Restore,
        "unfinished-file-left",
        "hygiene",
        "a failed restore leaves its temporary file",
        "litestream#1282",
    ),
    bug(
        Part::Restore,
        "failed-listing-is-empty",
        "honest",
        "a listing that fails passes for an empty replica",
        "litestream#1016, #774",
    ),
    bug(Part::S3, "no-answer-is-success", "durable", "a PUT without an answer counts as written", ""),
    bug(Part::S3, "first-page-only", "restore-valid", "a listing ends after its first page", ""),
    bug(
        Part::S3,
        "silence-is-waited-for",
        "catches-up",
        "a server that accepts a request and never answers is waited for",
        "seen with 0.5.5 to 0.5.17; litestream#1528, #592",
    ),
    bug(
        Part::S3,
        "trailers-for-every-store",
        "catches-up",
        "checksum trailers are sent to stores that refuse them",
        "litestream#912, #918, #948",
    ),
    bug(Part::S3, "payload-unsigned", "catches-up", "payloads are not signed", "litestream#811, #895, #913"),
    bug(
        Part::S3,
        "sdk-parameter-stays",
        "catches-up",
        "the SDK's x-id parameter is sent to stores that leave it out of the signature",
        "litestream#1133",
    ),
    bug(
        Part::S3,
        "refused-keys-count-as-deleted",
        "hygiene",
        "errors of single keys inside a successful answer to a deletion are ignored",
        "litestream#1151, fixed once in 0.3.x (5afd0bf)",
    ),
];
