//! `version`

use super::super::Outcome;
use super::super::args::Version;

pub(super) fn run(args: &Version) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let stdout = if args.verbose {
        format!(
            "Version:     {version}\nSQLite:      {}\nOS/Arch:     {}/{}\n",
            rusqlite::version(),
            std::env::consts::OS,
            std::env::consts::ARCH
        )
    } else {
        format!("{version}\n")
    };
    Outcome { stdout, ..Outcome::default() }
}
