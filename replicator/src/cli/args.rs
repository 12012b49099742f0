//! What can be typed: commands, flags, positional arguments. No behaviour.
//!
//! Names and meanings are those of Litestream 0.5 and 0.3. clap knows them as `--word`; [`super::dashes`] lets them be
//! written as `-word`, too.

use clap::{Args, Parser, Subcommand};

/// Streams SQLite databases to object storage, and restores them exactly.
#[derive(Debug, Parser)]
#[command(
    name = "replicator",
    version,
    term_width = 100,
    args_override_self = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = AFTER_HELP
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Flags may be written with one dash or two, with a space or an equals sign: -config PATH, --config=PATH.

Exit codes: 0 success; 1 any failure, with \"Error: …\" on standard error, or in the log of replicate;
doctor has codes of its own. For replicate -exec, the exit code of the child (128 + N if signal N
ended it, 0 if that signal was passed on by us), or 1 if the child succeeded but the replica is not
equal to the database.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the databases in the configuration file
    Databases(Databases),
    /// Ask whether the place of a replica is good enough, and with which settings
    Doctor(Doctor),
    /// List the LTX files of a replica
    #[command(visible_alias = "wal")]
    Ltx(Ltx),
    /// Replicate databases until stopped
    Replicate(Replicate),
    /// Remove the local state of a database, so that replication starts with a full copy
    Reset(Reset),
    /// Restore a database from its replica
    Restore(Restore),
    /// Show the replication state of databases
    Status(Status),
    /// Print the version
    Version(Version),
}

/// Flags about the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigFlags {
    /// Configuration file [default: $LITESTREAM_CONFIG, else /etc/litestream.yml]
    #[arg(long, value_name = "PATH")]
    pub config: Option<String>,
    /// Leave $NAME and ${NAME} in the configuration file as they are
    #[arg(long)]
    pub no_expand_env: bool,
}

/// `databases`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Databases {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFlags,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `doctor`
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = DOCTOR_HELP)]
pub struct Doctor {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFlags,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// A database of the configuration file, or a replica's URL [default: each bucket of the configuration file once]
    #[arg(value_name = "DB_PATH|REPLICA_URL")]
    pub source: Vec<String>,
}

const DOCTOR_HELP: &str = "\
Writes, reads, lists and deletes objects of its own below the replica's path, and removes them.
The most it can cost is printed first.

Exit codes: 0 usable; 10 usable with the settings printed; 20 not usable; 1 it could not be asked.";

/// `ltx`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Ltx {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFlags,
    /// Compaction level, 0 to 9, or "all"
    #[arg(long, value_name = "LEVEL", default_value = "0")]
    pub level: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// A database of the configuration file, or a replica's URL
    #[arg(value_name = "DB_PATH|REPLICA_URL")]
    pub source: Vec<String>,
}

/// `replicate`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Replicate {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFlags,
    /// Run CMD as a child once replication is set up, and stop when it exits; no shell: CMD ends at `>`, `|`, `;` or `&`
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// trace, debug, info, warn or error; wins over LOG_LEVEL and the configuration file
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Restore databases that do not exist; a replica that holds nothing is fine
    #[arg(long)]
    pub restore_if_db_not_exists: bool,
    /// Replicate what there is, then exit
    #[arg(long)]
    pub once: bool,
    /// With -once: write a snapshot of every database
    #[arg(long)]
    pub force_snapshot: bool,
    /// With -once: delete what the retention no longer keeps
    #[arg(long)]
    pub enforce_retention: bool,
    /// A database and the URL of its replica, instead of a configuration file
    #[arg(value_names = ["DB_PATH", "REPLICA_URL"])]
    pub arguments: Vec<String>,
}

/// `reset`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Reset {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFlags,
    /// Only print what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// The database
    #[arg(value_name = "DB_PATH")]
    pub database: Vec<String>,
}

/// `restore`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Restore {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFlags,
    /// Where to put the database [default: its path in the configuration file]
    #[arg(short = 'o', value_name = "PATH")]
    pub output: Option<String>,
    /// Restore exactly the state after this transaction (16 hexadecimal digits)
    #[arg(long, value_name = "TXID", conflicts_with = "timestamp")]
    pub txid: Option<String>,
    /// Restore the last state before this time, such as 2030-01-31T15:04:05Z
    #[arg(long, value_name = "TIME")]
    pub timestamp: Option<String>,
    /// Pieces of objects to fetch at once
    #[arg(long, value_name = "N", default_value = "8", value_parser = pieces)]
    pub parallelism: std::num::NonZeroUsize,
    /// Succeed without doing anything if the output exists
    #[arg(long)]
    pub if_db_not_exists: bool,
    /// Succeed without doing anything if the replica provably holds nothing
    #[arg(long)]
    pub if_replica_exists: bool,
    /// Print what would be fetched, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace an existing output and its -wal, -shm and -journal
    #[arg(long)]
    pub force: bool,
    /// Print JSON; log lines go to standard error then
    #[arg(long)]
    pub json: bool,
    /// Check of the result: none, quick or full
    #[arg(long, value_name = "CHECK", default_value = "quick")]
    pub integrity_check: String,
    /// Only a replica with this name in the configuration file
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,
    /// Of a backup by Litestream 0.3: only this generation
    #[arg(long, value_name = "ID")]
    pub generation: Option<String>,
    /// Of a backup by Litestream 0.3: nothing after this WAL index (8 hexadecimal digits)
    #[arg(long, value_name = "INDEX", conflicts_with = "timestamp")]
    pub index: Option<String>,
    /// Log details
    #[arg(short = 'v')]
    pub verbose: bool,
    /// A database of the configuration file, or a replica's URL
    #[arg(value_name = "DB_PATH|REPLICA_URL")]
    pub source: Vec<String>,
}

/// `status`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Status {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFlags,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Ask the replicas, too
    #[arg(long)]
    pub remote: bool,
    /// Only this database
    #[arg(value_name = "DB_PATH")]
    pub database: Option<String>,
}

/// `version`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Version {
    /// Also print the SQLite version and the platform
    #[arg(long)]
    pub verbose: bool,
}

/// Litestream takes anything below 1 for 1, and start scripts compute it.
fn pieces(text: &str) -> Result<std::num::NonZeroUsize, &'static str> {
    let number: i64 = text.parse().map_err(|_| "a whole number is needed")?;
    let number = usize::try_from(number.max(1)).map_err(|_| "the number is too large")?;
    Ok(std::num::NonZeroUsize::new(number).unwrap_or(std::num::NonZeroUsize::MIN))
}
