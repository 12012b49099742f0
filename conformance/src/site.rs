//! A place for a replica, in the three forms it is needed: for the judge to read, for a configuration file, as a URL.

use std::io;
use std::path::Path;

use tokio::runtime::Runtime;

use crate::replica::{Directory, Embedded, Store};
use crate::server::{Loopback, Server, Settings, system_clock};

const BUCKET: &str = "backups";
const PATH: &str = "some/app";

/// Where a replica lies.
pub struct Site {
    /// The judge's way to read it.
    pub store: Box<dyn Store>,
    /// The replica entry of a configuration, line by line.
    pub lines: Vec<String>,
    /// Its URL, for `restore`.
    pub url: String,
    /// The same as Litestream 0.3 spells it, which knows no parameters.
    pub legacy_url: String,
    /// Environment variables a replicator needs to reach it.
    pub environment: Vec<(String, String)>,
    embedded: Option<(Loopback, Runtime)>,
}

impl Site {
    /// A directory, which need not exist yet.
    #[must_use]
    pub fn directory(path: &Path) -> Self {
        Self {
            store: Box::new(Directory::new(path)),
            lines: vec!["type: file".to_owned(), format!("path: {}", path.display())],
            url: format!("file://{}", path.display()),
            legacy_url: format!("file://{}", path.display()),
            environment: Vec::new(),
            embedded: None,
        }
    }

    /// A path in a bucket of an S3 server inside this process, on a free port of the loopback address.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn embedded() -> io::Result<Self> {
        let runtime = Runtime::new()?;
        let server = Server::new(Settings::new(system_clock()));
        server.create_bucket(BUCKET);
        let loopback = runtime.block_on(server.clone().start_loopback())?;
        let endpoint = loopback.endpoint();
        let lines =
            ["type: s3", "bucket: backups", "path: some/app", "region: us-east-1", "force-path-style: true"];
        let mut lines: Vec<_> = lines.map(str::to_owned).into();
        lines.push(format!("endpoint: {endpoint}"));
        Ok(Self {
            store: Box::new(Embedded::new(&server, BUCKET, PATH)),
            lines,
            url: format!("s3://{BUCKET}/{PATH}?endpoint={endpoint}&region=us-east-1&forcePathStyle=true"),
            legacy_url: format!("s3://{BUCKET}.localhost:{}/{PATH}", loopback.address().port()),
            environment: [("AWS_ACCESS_KEY_ID", "access"), ("AWS_SECRET_ACCESS_KEY", "secret")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            embedded: Some((loopback, runtime)),
        })
    }

    /// The server, if the replica lies in one of this process.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.embedded.as_ref().map(|(loopback, _)| loopback.server())
    }
}
