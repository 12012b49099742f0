//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`: which proxy a server is reached through, and the tunnel to it.

use std::io;
use std::net::IpAddr;

use aws_smithy_types::base64;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::super::open::Environment;
use super::connection::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Stream;

/// Most bytes of a proxy's answer to `CONNECT`.
const MAX_ANSWER: usize = 16 * 1024;

/// The proxies of an environment.
#[derive(Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Lower-case entries of `NO_PROXY`.
    exempt: Vec<String>,
}

/// One proxy, itself reached over plain TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// Value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl Proxies {
    /// Reads the variables in either case.
    pub(crate) fn from_environment(environment: &Environment) -> Result<Self> {
        let get = |upper: &'static str| {
            let value = environment.get(upper).or_else(|| environment.get(&upper.to_ascii_lowercase()));
            value.map(|value| (upper, value))
        };
        let proxy = |name| get(name).map(|(name, value)| Proxy::parse(name, value)).transpose();
        let exempt = get("NO_PROXY").map_or("", |(_, value)| value);
        Ok(Self {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            exempt: exempt
                .split(',')
                .map(|entry| entry.trim().to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        })
    }

    /// The proxy for a server, if it is not to be reached directly.
    pub(crate) fn of(&self, target: &Target) -> Option<&Proxy> {
        let proxy = if target.tls { &self.https } else { &self.http }.as_ref()?;
        let host = target.host.to_ascii_lowercase();
        let direct = match host.parse::<IpAddr>() {
            // Link-local addresses are those of instance and container metadata.
            Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
            Ok(IpAddr::V6(address)) => address.is_loopback(),
            Err(_) => host == "localhost",
        };
        (!direct && !self.exempt.iter().any(|entry| exempts(entry, &host, target.port))).then_some(proxy)
    }
}

/// Whether an entry of `NO_PROXY` (`*`, a domain with its subdomains, an address; perhaps a port) covers a host.
fn exempts(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let (name, only_port) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') => (name, digits.parse::<u16>().ok()),
        _ => (entry, None),
    };
    if only_port.is_some_and(|only| only != port) {
        return false;
    }
    let domain = name.trim_start_matches('*').trim_start_matches('.');
    let is_subdomain = host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'));
    is_subdomain || (host == domain && !name.starts_with('.'))
}

impl Proxy {
    /// Parses `[http://][user:password@]host[:port]`; `name` is the variable's, the value may hold a password.
    fn parse(name: &str, value: &str) -> Result<Self> {
        let rest = match value.split_once("://") {
            None => value,
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                let message = format!("{name} names a {scheme} proxy: only http:// proxies are supported");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let bad = || Error::new(ErrorKind::Usage, format!("{name} is not of the form http://host:port"));
        let rest = rest.trim_end_matches('/');
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let uri: http::Uri = format!("http://{place}").parse().map_err(|_| bad())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        let authorization = user.map(|user| {
            let decoded: Vec<u8> = percent_decode_str(user).collect();
            format!("Basic {}", base64::encode(decoded))
        });
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authorization,
        })
    }

    /// Asks for a tunnel to `target` on a fresh connection to this proxy.
    pub(super) async fn tunnel(&self, stream: &mut dyn Stream, target: &Target) -> io::Result<()> {
        let place = target.authority();
        let authorization = self
            .authorization
            .as_ref()
            .map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
        let request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        // One byte at a time: what follows the head belongs to the tunnel.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MAX_ANSWER {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            answer.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&answer);
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) {
            return Ok(());
        }
        Err(io::Error::other(format!("the proxy {}:{} answered {status:?}", self.host, self.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Result<Proxies> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Proxies::from_environment(&Environment::hermetic(pairs))
    }

    fn chosen(proxies: &Proxies, uri: &str) -> Option<String> {
        let target = Target::of(&uri.parse().unwrap()).unwrap();
        proxies.of(&target).map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn the_variables_choose() {
        let all = proxies(&[
            ("HTTPS_PROXY", "http://user:p%40ss@secure.example:8443/"),
            ("http_proxy", "plain.example"),
            ("NO_PROXY", "internal.example, .sub.example, 10.0.0.1, only.example:9000"),
        ])
        .unwrap();
        let secure = all.https.clone().unwrap();
        assert_eq!(secure.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        for (uri, expected) in [
            ("https://s3.example/", Some("secure.example:8443")),
            ("http://s3.example/", Some("plain.example:80")),
            ("https://internal.example/", None),
            ("https://a.internal.example/", None),
            ("https://notinternal.example/", Some("secure.example:8443")),
            ("https://sub.example/", Some("secure.example:8443")),
            ("https://a.sub.example/", None),
            ("https://10.0.0.1/", None),
            ("https://only.example:9000/", None),
            ("https://only.example/", Some("secure.example:8443")),
            ("http://localhost:9000/", None),
            ("http://127.0.0.1:9000/", None),
            ("http://169.254.169.254/latest", None),
        ] {
            assert_eq!(chosen(&all, uri).as_deref(), expected, "{uri}");
        }
        let none = proxies(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "*")]).unwrap();
        assert_eq!(chosen(&none, "https://s3.example/"), None);
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_password() {
        for value in ["socks5://user:hush@p:1080", "http://user:hush@", "http://user:hush@a b"] {
            let error = proxies(&[("HTTPS_PROXY", value)]).err().unwrap();
            assert!(error.message().contains("HTTPS_PROXY") && !error.message().contains("hush"), "{error}");
        }
    }
}
