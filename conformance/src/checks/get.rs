//! GET: whole, in ranges, and what is not there.

use futures::future::join_all;
use http::Method;

use super::Need::{Optional, Required};
use super::probe::{pattern, same};
use super::{Check, Complaint, Probe, check, ensure};

pub(super) const CHECKS: &[Check] = &[
    check!(
        "get.missing",
        Required,
        1,
        4,
        "an absent key answers 404 NoSuchKey",
        "absent must be told apart from refused and from broken",
        missing
    ),
    check!(
        "get.content-length",
        Required,
        2,
        130,
        "Content-Length is that of the object",
        "a body that ends early is found by it",
        content_length
    ),
    check!(
        "get.range-first",
        Required,
        2,
        130,
        "bytes=0-99 gives the first 100 bytes with 206",
        "headers are read first",
        range_first
    ),
    check!(
        "get.range-middle",
        Required,
        2,
        130,
        "a range in the middle gives exactly these bytes",
        "pages are read out of large objects",
        range_middle
    ),
    check!(
        "get.range-one-byte",
        Required,
        2,
        130,
        "a range of one byte gives one byte",
        "off-by-one shows here",
        range_one_byte
    ),
    check!(
        "get.range-open",
        Required,
        2,
        130,
        "bytes=N- gives the rest",
        "this is how a broken download goes on; Litestream sends it with every GET",
        range_open
    ),
    check!(
        "get.range-from-zero",
        Required,
        2,
        130,
        "bytes=0- gives all bytes (206, or 200)",
        "Litestream's form of a whole read",
        range_from_zero
    ),
    check!(
        "get.range-suffix",
        Optional,
        2,
        130,
        "bytes=-N gives the last N bytes",
        "the trailer of a file in one request",
        range_suffix
    ),
    check!(
        "get.range-clipped",
        Required,
        2,
        130,
        "a range that ends behind the object is cut to it",
        "readers ask for a round number of bytes",
        range_clipped
    ),
    check!(
        "get.range-beyond",
        Required,
        2,
        4,
        "a range that begins behind the object answers 416",
        "a resumed download that is complete must not read garbage",
        range_beyond
    ),
    check!(
        "get.range-of-empty",
        Optional,
        2,
        4,
        "bytes=0- of an empty object answers 416, or 200 with no bytes",
        "R2 reports it as an error of its own kind",
        range_of_empty
    ),
    check!(
        "get.content-range",
        Required,
        2,
        130,
        "a range answer names its place and the total size",
        "the total tells that the object was replaced between two reads",
        content_range
    ),
    check!(
        "get.parallel-ranges",
        Required,
        9,
        130,
        "eight ranges at once put together give the object",
        "restore reads large objects in parallel",
        parallel_ranges
    ),
    check!(
        "get.no-recompression",
        Required,
        2,
        40,
        "Accept-Encoding: gzip changes nothing about the bytes",
        "proxies compress what they take for text",
        no_recompression
    ),
    check!(
        "get.etag-agrees",
        Required,
        3,
        4,
        "PUT, GET and HEAD report one ETag",
        "a write of unknown outcome is resolved by it",
        etag_agrees
    ),
    check!(
        "get.last-modified",
        Required,
        2,
        4,
        "Last-Modified is there and in the form of HTTP dates",
        "retention needs an age where the format gives none",
        last_modified
    ),
    check!(
        "get.repeat",
        Required,
        11,
        700,
        "ten reads of one object give the same bytes",
        "replicas behind one endpoint that disagree",
        repeat
    ),
];

const SIZE: usize = 60_000;

async fn stored(probe: &Probe) -> Result<bytes::Bytes, Complaint> {
    let content = pattern(SIZE, 3);
    probe.put("object", content.clone()).await?;
    Ok(content)
}

async fn range(probe: &Probe, header: &str, from: usize, to: usize) -> Result<(), Complaint> {
    let content = stored(probe).await?;
    let answer = probe.range("object", header).await?;
    same(header, &answer.body, &content[from..to])
}

async fn missing(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.expect(&probe.call(Method::GET, "absent"), 404).await?;
    ensure!(answer.code() == "NoSuchKey", "the code is {:?}", answer.code());
    Ok(())
}

async fn content_length(probe: &Probe) -> Result<(), Complaint> {
    stored(probe).await?;
    let answer = probe.get("object").await?;
    ensure!(
        answer.header("content-length") == SIZE.to_string(),
        "it is {:?}",
        answer.header("content-length")
    );
    Ok(())
}

async fn range_first(probe: &Probe) -> Result<(), Complaint> {
    range(probe, "bytes=0-99", 0, 100).await
}

async fn range_middle(probe: &Probe) -> Result<(), Complaint> {
    range(probe, "bytes=12345-54320", 12_345, 54_321).await
}

async fn range_one_byte(probe: &Probe) -> Result<(), Complaint> {
    range(probe, "bytes=777-777", 777, 778).await
}

async fn range_open(probe: &Probe) -> Result<(), Complaint> {
    range(probe, "bytes=59000-", 59_000, SIZE).await
}

async fn range_from_zero(probe: &Probe) -> Result<(), Complaint> {
    let content = stored(probe).await?;
    let answer = probe.send(&probe.call(Method::GET, "object").header("range", "bytes=0-")).await?;
    ensure!(answer.status.is_success(), "GET was answered {}", answer.describe());
    same("bytes=0-", &answer.body, &content)
}

async fn range_suffix(probe: &Probe) -> Result<(), Complaint> {
    range(probe, "bytes=-100", SIZE - 100, SIZE).await
}

async fn range_clipped(probe: &Probe) -> Result<(), Complaint> {
    range(probe, "bytes=59990-999999", 59_990, SIZE).await
}

async fn range_beyond(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "ten bytes.").await?;
    probe.expect(&probe.call(Method::GET, "object").header("range", "bytes=10-"), 416).await.map(drop)
}

async fn range_of_empty(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "").await?;
    let answer = probe.send(&probe.call(Method::GET, "object").header("range", "bytes=0-")).await?;
    let fine = answer.status == 416 || (answer.status.is_success() && answer.body.is_empty());
    ensure!(fine, "GET was answered {} with {} bytes", answer.describe(), answer.body.len());
    Ok(())
}

async fn content_range(probe: &Probe) -> Result<(), Complaint> {
    stored(probe).await?;
    let answer = probe.range("object", "bytes=100-199").await?;
    let found = answer.header("content-range");
    ensure!(found == format!("bytes 100-199/{SIZE}"), "Content-Range is {found:?}");
    ensure!(
        answer.header("content-length") == "100",
        "Content-Length is {:?}",
        answer.header("content-length")
    );
    Ok(())
}

async fn parallel_ranges(probe: &Probe) -> Result<(), Complaint> {
    let content = stored(probe).await?;
    let piece = SIZE / 8;
    let headers: Vec<_> = (0..8).map(|n| format!("bytes={}-{}", n * piece, (n + 1) * piece - 1)).collect();
    let answers = join_all(headers.iter().map(|header| probe.range("object", header))).await;
    let mut all = Vec::with_capacity(SIZE);
    for answer in answers {
        all.extend_from_slice(&answer?.body);
    }
    same("the pieces", &all, &content)
}

async fn no_recompression(probe: &Probe) -> Result<(), Complaint> {
    let text = "a line of text that compresses well\n".repeat(500);
    let put = probe.call(Method::PUT, "object.txt").header("content-type", "text/plain").body(text.clone());
    probe.expect(&put, 200).await?;
    let mut get = probe.call(Method::GET, "object.txt");
    get.unsigned_headers.push(("accept-encoding".to_owned(), "gzip".to_owned()));
    let answer = probe.send(&get).await?;
    ensure!(answer.status == 200, "GET was answered {}", answer.describe());
    ensure!(
        answer.header("content-encoding").is_empty(),
        "it came back in {}",
        answer.header("content-encoding")
    );
    same("object.txt", &answer.body, text.as_bytes())
}

async fn etag_agrees(probe: &Probe) -> Result<(), Complaint> {
    let put = probe.put("object", "some bytes").await?;
    let get = probe.get("object").await?;
    let head = probe.expect(&probe.call(Method::HEAD, "object"), 200).await?;
    let told = [put.etag(), get.etag(), head.etag()];
    ensure!(told[0] == told[1] && told[1] == told[2], "they report {told:?}");
    Ok(())
}

async fn last_modified(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "x").await?;
    let answer = probe.get("object").await?;
    let text = answer.header("last-modified");
    let parsed = aws_smithy_types::DateTime::from_str(text, aws_smithy_types::date_time::Format::HttpDate);
    ensure!(parsed.is_ok(), "it is {text:?}");
    Ok(())
}

async fn repeat(probe: &Probe) -> Result<(), Complaint> {
    let content = stored(probe).await?;
    for _ in 0..10 {
        probe.holds("object", &content).await?;
    }
    Ok(())
}
