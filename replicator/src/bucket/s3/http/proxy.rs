//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`: which proxy a server is reached through, and the tunnel to it.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use aws_smithy_types::base64;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::super::open::Environment;
use super::connection::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Stream;

/// Most bytes of a proxy's answer to `CONNECT`.
const MAX_ANSWER: usize = 16 * 1024;

/// Where instances and containers of AWS find their metadata over IPv6.
const METADATA: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023),
];

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
            Ok(IpAddr::V6(address)) => address.is_loopback() || METADATA.contains(&address),
            Err(_) => host == "localhost",
        };
        (!direct && !self.exempt.iter().any(|entry| exempts(entry, &host, target.port))).then_some(proxy)
    }
}

/// Whether an entry of `NO_PROXY` (`*`, a network, a domain with its subdomains, an address; the last two perhaps with a
/// port) covers a host.
fn exempts(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = network(entry) {
        return host.parse().is_ok_and(|address| contains(network, bits, address));
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

/// `address/bits`.
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = entry.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

/// Whether the first `bits` bits of two addresses of one family are the same.
fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let is_same = |a: u128, b: u128, width: u32| {
        bits <= width && (a ^ b).checked_shr(width - bits).is_none_or(|differing| differing == 0)
    };
    match (network, address.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => is_same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => is_same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
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
    fn networks_are_exempt() {
        let all = proxies(&[
            ("HTTP_PROXY", "p"),
            ("NO_PROXY", "10.0.0.0/8, 192.168.1.4/30, fd00::/8, 0.0.0.0/33, 10.1/16"),
        ])
        .unwrap();
        for (uri, direct) in [
            ("http://10.0.0.1:9000/", true),
            ("http://10.255.255.255/", true),
            ("http://11.0.0.1/", false),
            ("http://192.168.1.7/", true),
            ("http://192.168.1.8/", false),
            ("http://[fd12::1]:9000/", true),
            ("http://[fe12::1]/", false),
            ("http://[::ffff:10.1.2.3]/", true),
            // Names, not addresses.
            ("http://10.0.0.0.example/", false),
            ("http://10.example/", false),
        ] {
            assert_eq!(chosen(&all, uri).is_none(), direct, "{uri}");
        }
        let all = proxies(&[("HTTP_PROXY", "p"), ("NO_PROXY", "0.0.0.0/0")]).unwrap();
        assert_eq!(chosen(&all, "http://203.0.113.9/"), None);
        assert!(chosen(&all, "http://[2001:db8::1]/").is_some());
    }

    #[test]
    fn metadata_are_asked_directly() {
        let all = proxies(&[("HTTP_PROXY", "p")]).unwrap();
        for host in ["169.254.169.254", "[fd00:ec2::254]", "[fd00:ec2::23]"] {
            assert_eq!(chosen(&all, &format!("http://{host}/latest")), None, "{host}");
        }
        assert!(chosen(&all, "http://[fd00:ec2::25]/").is_some());
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_password() {
        for value in ["socks5://user:hush@p:1080", "http://user:hush@", "http://user:hush@a b"] {
            let error = proxies(&[("HTTPS_PROXY", value)]).err().unwrap();
            assert!(error.message().contains("HTTPS_PROXY") && !error.message().contains("hush"), "{error}");
        }
    }
}
