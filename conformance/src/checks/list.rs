//! ListObjectsV2: complete, in order, in pages, and up to date.

use futures::future::join_all;
use http::Method;
use tokio::time::Instant;

use super::Need::{Optional, Required, Setting};
use super::address::PLAIN_PATH;
use super::{Check, Complaint, Probe, check, ensure};
use crate::client::{Call, xml};

pub(super) const CHECKS: &[Check] = &[
    check!(
        "list.finds-all",
        Required,
        6,
        4,
        "every object under the prefix is listed",
        "the listing is the inventory of a replica",
        finds_all
    ),
    check!(
        "list.order",
        Required,
        12,
        4,
        "keys come in byte order",
        "restore reads transactions in the order of the listing",
        order
    ),
    check!(
        "list.order-of-bytes",
        Optional,
        7,
        4,
        "the order is that of UTF-8 bytes, not of an alphabet",
        "upper case before lower case, and non-ASCII last",
        order_of_bytes
    ),
    check!(
        "list.prefix",
        Required,
        5,
        4,
        "only keys with the prefix are listed",
        "several databases and levels share a bucket",
        prefix
    ),
    check!(
        "list.prefix-without-slash",
        Required,
        4,
        4,
        "a prefix is text, not a directory",
        "one request finds all files of a TXID range",
        prefix_without_slash
    ),
    check!(
        "list.nothing",
        Required,
        1,
        4,
        "a prefix without objects gives an empty list with 200",
        "a new replica; the list must not be an error",
        nothing
    ),
    check!(
        "list.start-after",
        Setting("nothing: the client must skip what it knows; more requests"),
        6,
        4,
        "start-after skips up to and including the key",
        "looking for what is new costs one request, not the whole listing",
        start_after
    ),
    check!(
        "list.start-after-absent",
        Setting("nothing: the client must skip what it knows; more requests"),
        5,
        4,
        "start-after need not name an existing key",
        "the next TXID is computed, not looked up",
        start_after_absent
    ),
    check!(
        "list.pages",
        Required,
        15,
        6,
        "with max-keys=3 ten keys come in four pages without loss or repetition",
        "one lost page is a gap in the lineage",
        pages
    ),
    check!(
        "list.over-1000",
        Required,
        1015,
        1600,
        "1,005 keys come in pages without loss or repetition",
        "a busy database writes 1,000 transactions in minutes",
        over_1000
    ),
    check!(
        "list.max-keys",
        Required,
        5,
        4,
        "max-keys limits a page and IsTruncated tells",
        "bounds memory",
        max_keys
    ),
    check!(
        "list.page-then-write",
        Required,
        12,
        4,
        "a key written behind the current page shows in a later one",
        "replication goes on while a listing runs",
        page_then_write
    ),
    check!(
        "list.sizes",
        Required,
        4,
        12,
        "sizes are those of the objects",
        "resume and cost are computed from them",
        sizes
    ),
    check!(
        "list.last-modified",
        Required,
        2,
        4,
        "LastModified is given",
        "ages for retention come from the listing",
        last_modified
    ),
    check!(
        "list.etag",
        Optional,
        2,
        4,
        "ETag is given and that of the object",
        "a change is seen without a request per object",
        etag
    ),
    check!(
        "list.read-after-write",
        Required,
        40,
        80,
        "each of 20 new objects is listed as soon as its PUT is answered",
        "B2 and Tigris lagged (litestream#435, #906); a lagging list makes a replicator start over or overwrite",
        read_after_write
    ),
    check!(
        "list.no-special-header",
        Setting("the provider's header for consistent reads (sent by default where known)"),
        20,
        40,
        "listings are up to date without a header of the provider's own",
        "Tigris needs X-Tigris-Consistent (litestream#906)",
        no_special_header
    ),
    check!(
        "list.read-after-delete",
        Required,
        30,
        10,
        "each of 10 deleted objects is gone from the listing as soon as its DELETE is answered",
        "restore plans from the listing and would ask for what is gone",
        read_after_delete
    ),
    check!(
        "list.read-after-overwrite",
        Required,
        20,
        10,
        "the listing shows the newest size at once",
        "as above",
        read_after_overwrite
    ),
    check!(
        "list.multipart",
        Required,
        5,
        4,
        "an object completed from parts is listed at once",
        "snapshots are found this way",
        multipart
    ),
    check!(
        "list.delimiter",
        Optional,
        6,
        4,
        "delimiter=/ groups keys into common prefixes",
        "finding the databases in a bucket",
        delimiter
    ),
    check!(
        "list.special-keys",
        PLAIN_PATH,
        3,
        4,
        "keys with &, <, quotes and spaces are listed as they are",
        "escaping errors hide objects",
        special_keys
    ),
    check!(
        "list.encoding-url",
        Optional,
        2,
        4,
        "encoding-type=url percent-encodes keys",
        "keys that XML cannot carry",
        encoding_url
    ),
    check!(
        "list.bad-token",
        Optional,
        1,
        4,
        "a made-up continuation token is refused",
        "a server that starts over repeats pages for ever",
        bad_token
    ),
    check!(
        "list.version-1",
        Optional,
        3,
        4,
        "the older ListObjects works",
        "other tools on the same bucket",
        version_1
    ),
];

async fn fill(probe: &Probe, names: &[&str]) -> Result<(), Complaint> {
    for name in names {
        probe.put(name, "x").await?;
    }
    Ok(())
}

fn expected(found: &[String], wanted: &[&str]) -> Result<(), Complaint> {
    ensure!(found == wanted, "it lists {found:?}, not {wanted:?}");
    Ok(())
}

async fn finds_all(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["0000/a.ltx", "0000/b.ltx", "0001/c.ltx", "0009/d.ltx", "e"]).await?;
    expected(&probe.list("", 1000, 1).await?, &["0000/a.ltx", "0000/b.ltx", "0001/c.ltx", "0009/d.ltx", "e"])
}

async fn order(probe: &Probe) -> Result<(), Complaint> {
    let mut names: Vec<_> = (0..10).map(|n| format!("{:016x}-{:016x}.ltx", n * 7 % 10, n)).collect();
    for name in &names {
        probe.put(name, "x").await?;
    }
    names.sort_unstable();
    let found = probe.list("", 1000, 1).await?;
    ensure!(found == names, "it lists {found:?}");
    Ok(())
}

async fn order_of_bytes(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["b", "B", "a", "é", "0", "a-"]).await?;
    expected(&probe.list("", 1000, 1).await?, &["0", "B", "a", "a-", "b", "é"])
}

async fn prefix(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["0001/a", "0001x", "00010/b", "0002/c"]).await?;
    expected(&probe.list("0001/", 1000, 1).await?, &["0001/a"])
}

async fn prefix_without_slash(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["level/00aa-00ab", "level/00aa-00ac", "level/00ab-00ac"]).await?;
    expected(&probe.list("level/00aa", 1000, 1).await?, &["level/00aa-00ab", "level/00aa-00ac"])
}

async fn nothing(probe: &Probe) -> Result<(), Complaint> {
    let page = probe.page("nothing-here/", &[]).await?;
    ensure!(page.keys.is_empty() && !page.truncated, "it lists {:?}", page.keys);
    Ok(())
}

async fn start_after(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["a", "b", "c", "d", "e"]).await?;
    let page = probe.page("", &[("start-after", &probe.key("c"))]).await?;
    expected(&page.keys, &["d", "e"])
}

async fn start_after_absent(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["a", "c", "e"]).await?;
    let page = probe.page("", &[("start-after", &probe.key("b"))]).await?;
    expected(&page.keys, &["c", "e"])
}

async fn pages(probe: &Probe) -> Result<(), Complaint> {
    let names: Vec<_> = (0..10).map(|n| format!("key-{n:02}")).collect();
    for name in &names {
        probe.put(name, "x").await?;
    }
    let found = probe.list("", 3, 5).await?;
    ensure!(found == names, "it lists {found:?}");
    Ok(())
}

/// Rounds of requests after which the pace is known.
const PACE_ROUNDS: usize = 20;

async fn over_1000(probe: &Probe) -> Result<(), Complaint> {
    let names: Vec<_> = (0..1005).map(|n| format!("{n:016x}.ltx")).collect();
    // Bounded, and gentle on providers that allow few requests at once.
    let start = Instant::now();
    for (round, some) in names.chunks(4).enumerate() {
        if round == PACE_ROUNDS {
            // Every round waits for the endpoint: far away, they take longer than a check may.
            probe.take_time(start.elapsed() * 300 / u32::try_from(PACE_ROUNDS).unwrap_or(1));
        }
        for answer in join_all(some.iter().map(|name| probe.put(name, "x"))).await {
            answer?;
        }
    }
    let found = probe.list("", 1000, 10).await?;
    ensure!(found.len() == names.len(), "it lists {} of {} keys", found.len(), names.len());
    ensure!(found == names, "the pages are not in order");
    Ok(())
}

async fn max_keys(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["a", "b", "c"]).await?;
    let page = probe.page("", &[("max-keys", "2")]).await?;
    expected(&page.keys, &["a", "b"])?;
    ensure!(page.truncated, "IsTruncated is not set on a cut page");
    let page = probe.page("", &[("max-keys", "3")]).await?;
    ensure!(!page.truncated, "IsTruncated is set though nothing is left");
    Ok(())
}

async fn page_then_write(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["a", "b", "c", "d"]).await?;
    let first = probe.page("", &[("max-keys", "2")]).await?;
    probe.put("e", "x").await?;
    let token = first.token.ok_or_else(|| Complaint::new("the first page has no token"))?;
    let second = probe.page("", &[("max-keys", "1000"), ("continuation-token", &token)]).await?;
    expected(&second.keys, &["c", "d", "e"])
}

async fn sizes(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "").await?;
    probe.put("b", "x").await?;
    probe.put("c", vec![0; 10_000]).await?;
    let page = probe.page("", &[]).await?;
    ensure!(page.sizes == [0, 1, 10_000], "it reports {:?}", page.sizes);
    Ok(())
}

async fn last_modified(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    let page = probe.page("", &[]).await?;
    let text = xml::first(&page.xml, "LastModified").unwrap_or_default();
    let parsed = aws_smithy_types::DateTime::from_str(&text, aws_smithy_types::date_time::Format::DateTime);
    ensure!(parsed.is_ok(), "LastModified is {text:?}");
    Ok(())
}

async fn etag(probe: &Probe) -> Result<(), Complaint> {
    let put = probe.put("a", "x").await?;
    let page = probe.page("", &[]).await?;
    let told = xml::first(&page.xml, "ETag").unwrap_or_default();
    ensure!(told.trim_matches('"') == put.etag(), "it reports {told:?}, PUT reported {:?}", put.etag());
    Ok(())
}

async fn read_after_write(probe: &Probe) -> Result<(), Complaint> {
    for round in 0..20 {
        let name = format!("{round:04}");
        probe.put(&name, "x").await?;
        let found = probe.list("", 1000, 1).await?;
        ensure!(found.last() == Some(&name), "after {} writes it lists {} keys", round + 1, found.len());
    }
    Ok(())
}

async fn no_special_header(probe: &Probe) -> Result<(), Complaint> {
    for round in 0..10 {
        probe.put(&format!("{round:04}"), "x").await?;
        let mut call = Call::new(Method::GET, "").query("list-type", "2").query("prefix", probe.key(""));
        call.bare = true;
        let found = probe.listing(&probe.expect(&call, 200).await?).keys;
        ensure!(found.len() == round + 1, "after {} writes it lists {} keys", round + 1, found.len());
    }
    Ok(())
}

async fn read_after_delete(probe: &Probe) -> Result<(), Complaint> {
    for round in 0..10 {
        let name = format!("{round:04}");
        probe.put(&name, "x").await?;
        probe.expect(&probe.call(Method::DELETE, &name), 204).await?;
        let found = probe.list("", 1000, 1).await?;
        ensure!(found.is_empty(), "after the delete it still lists {found:?}");
    }
    Ok(())
}

async fn read_after_overwrite(probe: &Probe) -> Result<(), Complaint> {
    for size in 1..=10 {
        probe.put("object", vec![0; size]).await?;
        let page = probe.page("", &[]).await?;
        ensure!(page.sizes == [size as u64], "after writing {size} bytes it reports {:?}", page.sizes);
    }
    Ok(())
}

async fn multipart(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let etag = probe.part("object", &id, 1, "four".into()).await?;
    probe.complete("object", &id, &[(1, etag)]).await?;
    let page = probe.page("", &[]).await?;
    ensure!(
        page.keys == ["object"] && page.sizes == [4],
        "it lists {:?} with sizes {:?}",
        page.keys,
        page.sizes
    );
    Ok(())
}

async fn delimiter(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["a/1", "a/2", "b/1", "c"]).await?;
    let page = probe.page("", &[("delimiter", "/")]).await?;
    expected(&page.keys, &["c"])?;
    let groups: Vec<_> = xml::all(&page.xml, "CommonPrefixes");
    ensure!(groups.len() == 2, "it groups into {groups:?}");
    Ok(())
}

async fn special_keys(probe: &Probe) -> Result<(), Complaint> {
    let name = "a&b <c> \"d\" 'e'";
    probe.put(name, "x").await?;
    expected(&probe.list("", 1000, 1).await?, &[name])
}

async fn encoding_url(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a b", "x").await?;
    let page = probe.page("", &[("encoding-type", "url")]).await?;
    let fine = page.keys.iter().all(|key| key.ends_with("a%20b") || key.ends_with("a+b"));
    ensure!(fine && page.keys.len() == 1, "it lists {:?}", page.keys);
    Ok(())
}

async fn bad_token(probe: &Probe) -> Result<(), Complaint> {
    let call = Call::new(Method::GET, "").query("continuation-token", "made up").query("list-type", "2");
    let answer = probe.send(&call).await?;
    ensure!(answer.status.is_client_error(), "it was answered {}", answer.describe());
    Ok(())
}

async fn version_1(probe: &Probe) -> Result<(), Complaint> {
    fill(probe, &["a", "b"]).await?;
    let answer = probe.expect(&Call::new(Method::GET, "").query("prefix", probe.key("")), 200).await?;
    expected(&probe.listing(&answer).keys, &["a", "b"])
}
