//! Names: how the bucket is reached and which keys work.

use http::Method;

use super::Need::{Optional, Required, Setting};
use super::cleaning::clean;
use super::probe::same;
use super::{Check, Complaint, Need, Probe, check, ensure};
use crate::client::{Address, Call, Client, Repeat, Style};
use crate::server::system_clock;

/// For keys that only the user's own path can make: what a replicator adds to it are letters, digits and these signs.
pub(super) const PLAIN_PATH: Need = Setting("path: only ASCII letters, digits and - _ . /");

pub(super) const CHECKS: &[Check] = &[
    check!(
        "address.configured",
        Required,
        2,
        4,
        "an object is written and read with the style the target is configured for",
        "nothing else can work",
        configured
    ),
    check!(
        "address.path-style",
        Setting("force-path-style: false"),
        2,
        4,
        "https://host/bucket/key reaches the object",
        "replicators use path style for every endpoint that is not AWS; Alibaba OSS refuses it",
        path_style
    ),
    check!(
        "address.virtual-host",
        Setting("force-path-style: true"),
        2,
        4,
        "https://bucket.host/key reaches the object",
        "AWS and DigitalOcean document this form; servers without wildcard DNS lack it",
        virtual_host
    ),
    check!(
        "address.no-scheme",
        Required,
        2,
        4,
        "the endpoint written without its scheme reaches the same object, where that scheme is the one then assumed",
        "Backblaze shows its endpoints without a scheme (litestream#789)",
        no_scheme
    ),
    check!(
        "address.trailing-slash",
        Required,
        2,
        4,
        "the endpoint written with a slash at the end reaches the same object",
        "people paste URLs from consoles",
        trailing_slash
    ),
    check!(
        "address.missing-bucket",
        Required,
        1,
        4,
        "a bucket that does not exist is an error (404, or 403 where names are hidden)",
        "a mistyped bucket must not look like an empty replica",
        missing_bucket
    ),
    check!(
        "address.leading-slash",
        Optional,
        12,
        16,
        "a key that begins with a slash is a key of its own",
        "with an empty path, Litestream's keys begin with a slash",
        leading_slash
    ),
    check!(
        "address.spaces-and-signs",
        PLAIN_PATH,
        2,
        4,
        "a key with spaces, plus, ampersand and equals signs is stored under just that name",
        "the path in a replica URL is the user's choice; the signature covers its encoding",
        spaces_and_signs
    ),
    check!(
        "address.percent",
        PLAIN_PATH,
        2,
        4,
        "a key with a literal %2F is not the key with a slash",
        "servers that decode twice mix up two databases",
        percent
    ),
    check!(
        "address.unicode",
        PLAIN_PATH,
        2,
        4,
        "a key outside ASCII is stored under just that name",
        "paths are the user's choice",
        unicode
    ),
    check!(
        "address.long-key",
        Optional,
        2,
        4,
        "a key of 1,000 bytes works",
        "S3 allows 1,024; servers on file systems allow 255 per component",
        long_key
    ),
    check!(
        "address.key-too-long",
        Optional,
        1,
        4,
        "a key of 1,100 bytes is refused",
        "a server that cuts keys would let two objects collide",
        key_too_long
    ),
    check!(
        "address.many-levels",
        Required,
        2,
        4,
        "a key with 20 levels of slashes works",
        "replicas nest below the user's path",
        many_levels
    ),
    check!(
        "address.object-and-directory",
        Optional,
        5,
        4,
        "a and a/b exist side by side, and are listed",
        "two replicas whose paths nest; servers on file systems cannot",
        object_and_directory
    ),
    check!(
        "address.trailing-slash-key",
        Optional,
        3,
        4,
        "the key a/ is not the key a",
        "consoles leave directory markers behind, and restore must not trip over them",
        trailing_slash_key
    ),
    check!(
        "address.letter-case",
        Optional,
        4,
        4,
        "KEY and key are two objects",
        "a server on a case-folding file system mixes up two databases",
        letter_case
    ),
];

async fn round_trip(probe: &Probe, name: &str, style: Option<Style>) -> Result<(), Complaint> {
    let mut put = probe.call(Method::PUT, name).body(name.as_bytes().to_vec());
    put.style = style;
    probe.expect(&put, 200).await?;
    let mut get = probe.call(Method::GET, name);
    get.style = style;
    let answer = probe.expect(&get, 200).await?;
    same(name, &answer.body, name.as_bytes())
}

async fn configured(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, "object", None).await
}

async fn path_style(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, "object", Some(Style::Path)).await
}

async fn virtual_host(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, "object", Some(Style::Virtual)).await
}

/// Writes through the target's own endpoint and reads through a rewritten one.
async fn through(probe: &Probe, endpoint: String) -> Result<(), Complaint> {
    probe.put("object", "written").await?;
    let mut target = probe.client().target().clone();
    target.endpoint = endpoint;
    let other = Client::new(target.into(), probe.client().budget())
        .map_err(|error| Complaint::new(error.to_string()))?;
    let get = Call::new(Method::GET, &probe.key("object"));
    let answer = other.send_patiently(&get, Repeat::WhenFailed).await?;
    ensure!(answer.status == 200, "GET was answered {}", answer.describe());
    same("object", &answer.body, b"written")
}

async fn no_scheme(probe: &Probe) -> Result<(), Complaint> {
    let endpoint = &probe.client().target().endpoint;
    let bare = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest).to_owned();
    if let Some(assumed) = other_scheme(endpoint, &bare)? {
        probe.note(format!("not asked: without its scheme the endpoint is taken for {assumed}, so write it"));
        return Ok(());
    }
    through(probe, bare).await
}

/// The scheme that a client assumes for the bare form, if it is not that of the endpoint: then the bare form names
/// another server, and that it does not answer is no fault of this one.
fn other_scheme(endpoint: &str, bare: &str) -> Result<Option<String>, Complaint> {
    let scheme = |text| {
        Address::parse(text, None)
            .map(|address| address.scheme)
            .map_err(|error| Complaint::new(error.to_string()))
    };
    let assumed = scheme(bare)?;
    Ok((assumed != scheme(endpoint)?).then_some(assumed))
}

async fn trailing_slash(probe: &Probe) -> Result<(), Complaint> {
    let endpoint = probe.client().target().endpoint.trim_end_matches('/').to_owned();
    through(probe, format!("{endpoint}/")).await
}

/// A name that no bucket has. A fixed one would be there in the next run on a server that makes buckets as they are named.
pub(super) fn absent_bucket() -> String {
    format!("no-such-bucket-{:x}", system_clock()())
}

async fn missing_bucket(probe: &Probe) -> Result<(), Complaint> {
    let mut call = Call::new(Method::GET, "").query("list-type", "2");
    call.bucket = Some(absent_bucket());
    let answer = probe.send(&call).await?;
    let status = answer.status.as_u16();
    ensure!(matches!(status, 403 | 404), "listing it was answered {}", answer.describe());
    Ok(())
}

async fn leading_slash(probe: &Probe) -> Result<(), Complaint> {
    // The key is outside the prefix that is cleaned up.
    let outside = probe.within(format!("/{}", probe.key("")));
    let call = |method| outside.call(method, "object");
    let (put, get) = (call(Method::PUT).body("with a slash"), call(Method::GET));
    let kept = async {
        probe.expect(&put, 200).await?;
        let answer = probe.expect(&get, 200).await?;
        same("/…/object", &answer.body, b"with a slash")
    };
    let kept = kept.await;
    // Whatever was answered: a refused PUT may have been applied.
    let deleted = probe.send(&call(Method::DELETE)).await;
    // A bucket with versions keeps what was deleted.
    if let Err(left) = clean(&outside).await {
        probe.leave(left.0);
    }
    kept?;
    let deleted = deleted?;
    ensure!(deleted.status.is_success(), "DELETE was answered {}", deleted.describe());
    Ok(())
}

async fn spaces_and_signs(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, "a b+c&d=e,f(g)!h'i~j@k:l$m;n.ltx", None).await
}

async fn percent(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, "one%2Ftwo%20three", None).await
}

async fn unicode(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, "größe/数据库/\u{1f5c4}.ltx", None).await
}

async fn long_key(probe: &Probe) -> Result<(), Complaint> {
    let rest = 1000 - probe.key("").len();
    round_trip(probe, &"k".repeat(rest), None).await
}

async fn key_too_long(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.send(&probe.call(Method::PUT, &"k".repeat(1100)).body("x")).await?;
    ensure!(answer.status.is_client_error(), "PUT was answered {}", answer.describe());
    Ok(())
}

async fn many_levels(probe: &Probe) -> Result<(), Complaint> {
    let name = format!("{}/object", ["level"; 20].join("/"));
    round_trip(probe, &name, None).await
}

async fn object_and_directory(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "outer").await?;
    probe.put("a/b", "inner").await?;
    probe.holds("a", b"outer").await?;
    probe.holds("a/b", b"inner").await?;
    let listed = probe.list("", 1000, 1).await?;
    ensure!(listed.len() == 2, "of both, the listing shows {listed:?}");
    Ok(())
}

async fn trailing_slash_key(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a/", "").await?;
    probe.absent("a").await?;
    probe.holds("a/", b"").await
}

async fn letter_case(probe: &Probe) -> Result<(), Complaint> {
    probe.put("KEY", "upper").await?;
    probe.put("key", "lower").await?;
    probe.holds("KEY", b"upper").await?;
    probe.holds("key", b"lower").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_endpoint_is_asked_only_where_it_is_the_same_one() {
        for (endpoint, bare, expected) in [
            ("https://s3.example.com", "s3.example.com", None),
            ("s3.example.com", "s3.example.com", None),
            ("http://127.0.0.1:9000", "127.0.0.1:9000", None),
            ("http://minio.example:9000", "minio.example:9000", Some("https")),
            ("http://10.0.0.7:9000", "10.0.0.7:9000", Some("https")),
            ("https://localhost:9000", "localhost:9000", Some("http")),
        ] {
            assert_eq!(other_scheme(endpoint, bare).unwrap().as_deref(), expected, "{endpoint}");
        }
    }
}
