//! A place for a replica, in the three forms it is needed: for the judge to read, for a configuration file, as a URL.

use std::io;
use std::path::Path;

use tokio::runtime::Runtime;

use crate::Defect;
use crate::client::{Client, Style};
use crate::replica::{Directory, Embedded, S3, Store};
use crate::server::{Loopback, Server, Settings, system_clock};
use crate::targets::Guise;

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

    /// A path in the client's bucket, read within the client's budget. Call it outside of any async task.
    ///
    /// # Errors
    /// If no runtime can be started.
    pub fn endpoint(client: &Client, path: &str) -> Result<Self, Defect> {
        let target = client.target();
        let guise = target.guise.clone().unwrap_or_else(|| Guise {
            endpoint: Some(target.endpoint.clone()),
            region: Some(target.region.clone()),
            path_style: Some(target.style == Style::Path),
            environment: Vec::new(),
        });
        let path = path.trim_matches('/');
        let mut lines =
            vec!["type: s3".to_owned(), format!("bucket: {}", target.bucket), format!("path: {path}")];
        let mut query = Vec::new();
        let mut set = |key: &str, parameter: &str, value: Option<String>| {
            if let Some(value) = value {
                lines.push(format!("{key}: {value}"));
                query.push(format!("{parameter}={value}"));
            }
        };
        set("endpoint", "endpoint", guise.endpoint);
        set("region", "region", guise.region);
        set("force-path-style", "forcePathStyle", guise.path_style.map(|flag| flag.to_string()));
        let mut environment = guise.environment;
        environment.push(("AWS_ACCESS_KEY_ID".to_owned(), target.access_key.clone()));
        environment.push(("AWS_SECRET_ACCESS_KEY".to_owned(), target.secret_key.clone()));
        environment.extend(target.session_token.clone().map(|token| ("AWS_SESSION_TOKEN".to_owned(), token)));
        if let Some(bundle) = &target.ca_bundle {
            environment.push(("AWS_CA_BUNDLE".to_owned(), bundle.display().to_string()));
        }
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        Ok(Self {
            store: Box::new(S3::below(client, path)?),
            lines,
            url: format!("s3://{}/{path}{query}", target.bucket),
            legacy_url: format!("s3://{}/{path}", target.bucket),
            environment,
            embedded: None,
        })
    }

    /// The same place for somebody who names the endpoint in the environment and nowhere else.
    #[must_use]
    pub fn endpoint_in_environment(mut self) -> Self {
        let line = self.lines.iter().position(|line| line.starts_with("endpoint: "));
        let Some(line) = line.map(|at| self.lines.remove(at)) else { return self };
        let endpoint = line.trim_start_matches("endpoint: ");
        self.environment.push(("AWS_ENDPOINT_URL_S3".to_owned(), endpoint.to_owned()));
        let parameter = format!("endpoint={endpoint}");
        if let Some((path, query)) = self.url.split_once('?') {
            let rest: Vec<_> = query.split('&').filter(|part| *part != parameter).collect();
            let question = if rest.is_empty() { "" } else { "?" };
            self.url = format!("{path}{question}{}", rest.join("&"));
        }
        self
    }

    /// The server, if the replica lies in one of this process.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.embedded.as_ref().map(|(loopback, _)| loopback.server())
    }
}
