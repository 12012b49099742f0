//! The two programs that are compared: one command line, one configuration format, two binaries.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::process::Process;
use conformance::site::Site;
use conformance::witness;

/// A program under measurement.
#[derive(Debug, Clone)]
pub struct Contender {
    /// Name in reports.
    pub name: &'static str,
    /// The program.
    pub binary: PathBuf,
    /// The program that makes replicas which both restore.
    pub writer: PathBuf,
}

impl Contender {
    /// Ours first, Litestream second.
    ///
    /// # Errors
    /// If our binary is not there, or Litestream's cannot be fetched.
    pub fn both(ours: &Path) -> io::Result<[Self; 2]> {
        if !ours.is_file() {
            let what = format!("{} is not there: cargo build --release -p replicator", ours.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        let theirs = witness::litestream(witness::V0_5_17)?;
        let writer = ours.to_owned();
        Ok([
            Self { name: "ours", binary: writer.clone(), writer: writer.clone() },
            Self { name: "litestream", binary: theirs, writer },
        ])
    }

    fn command(&self, site: &Site) -> Command {
        let mut command = Command::new(&self.binary);
        // Litestream's S3 client refuses to start with a custom bundle, whatever the endpoint.
        command.env_remove("AWS_CA_BUNDLE").envs(site.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts `replicate` with a configuration of defaults for these databases, each with its own lines of the replica.
    ///
    /// # Errors
    /// If the configuration cannot be written or the program not be started.
    pub fn replicate(
        &self,
        folder: &Path,
        databases: &[(PathBuf, Vec<String>)],
        site: &Site,
    ) -> io::Result<Process> {
        let mut text = String::from("logging:\n  level: warn\ndbs:\n");
        for (path, lines) in databases {
            text += &format!("  - path: {}\n    replica:\n", path.display());
            for line in lines {
                text += &format!("      {line}\n");
            }
        }
        let config = folder.join("litestream.yml");
        std::fs::write(&config, text)?;
        let mut command = self.command(site);
        command.args(["replicate", "-config"]).arg(config);
        Process::start(&mut command, &folder.join("replicate.log"))
    }

    /// Starts `restore` of the newest state, with these further arguments.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn restore(
        &self,
        folder: &Path,
        site: &Site,
        arguments: &[&str],
        output: &Path,
    ) -> io::Result<Process> {
        let mut command = self.command(site);
        command.arg("restore").args(arguments).arg("-o").arg(output).arg(&site.url);
        Process::start(&mut command, &folder.join("restore.log"))
    }
}
