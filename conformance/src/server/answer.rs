//! Making and spoiling HTTP answers.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use super::fault::{ErrorAnswer, Outcome};

/// Body of every answer.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// An answer whose body is still whole.
pub(super) type Whole = Response<Bytes>;

/// An S3 error in XML; for HEAD without a body, as HTTP demands.
/// One without a code is that of a proxy, in plain text.
pub(super) fn error(answer: &ErrorAnswer, head: bool) -> Whole {
    let (kind, text) = if answer.code.is_empty() {
        ("text/plain", format!("{} page not found\n", answer.status))
    } else {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>",
            code = answer.code
        );
        ("application/xml", xml)
    };
    let mut response = Response::new(if head { Bytes::new() } else { Bytes::from(text) });
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(seconds) = answer.retry_after_secs {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Puts the headers in order of name, and those every server sends.
pub(super) fn dress(mut response: Whole, head: bool, date: &str, ordinal: u64) -> Whole {
    if !head {
        let length = HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    if let Ok(date) = HeaderValue::from_str(date) {
        response.headers_mut().insert(header::DATE, date);
    }
    let id = HeaderValue::from_str(&format!("{ordinal:016X}")).expect("hexadecimal digits");
    response.headers_mut().insert("x-amz-request-id", id);
    // `s3s` writes metadata in the order of a hash map.
    let mut pairs: Vec<_> =
        response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    pairs.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    response.headers_mut().clear();
    for (name, value) in pairs {
        response.headers_mut().append(name, value);
    }
    response
}

/// Carries out the part of a fault that concerns the answer's body.
pub(super) fn spoil(response: Whole, outcome: &Outcome) -> Response<AnswerBody> {
    response.map(|body| match *outcome {
        Outcome::CutBody(at) if (body.len() as u64) > at => {
            pieces(vec![head(&body, at)], Duration::ZERO, End::Cut)
        }
        Outcome::StallBody(at) if (body.len() as u64) > at => {
            pieces(vec![head(&body, at)], Duration::ZERO, End::Stall)
        }
        Outcome::Dribble(size, pause) => {
            let chunks = body.chunks(size.max(1)).map(|chunk| body.slice_ref(chunk)).collect();
            pieces(chunks, pause, End::Proper)
        }
        Outcome::FlipBit(bit) if !body.is_empty() => whole(flip(&body, bit)),
        _ => whole(body),
    })
}

fn head(body: &Bytes, at: u64) -> Bytes {
    body.slice(..usize::try_from(at).unwrap_or(usize::MAX).min(body.len()))
}

fn flip(body: &[u8], bit: u64) -> Bytes {
    let mut bytes = body.to_vec();
    let bit = bit % (bytes.len() as u64 * 8);
    let place = usize::try_from(bit / 8).expect("an offset inside a body in memory");
    bytes[place] ^= 1 << (bit % 8);
    bytes.into()
}

fn whole(body: Bytes) -> AnswerBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

#[derive(Clone, Copy)]
enum End {
    Proper,
    Cut,
    Stall,
}

fn pieces(chunks: Vec<Bytes>, pause: Duration, end: End) -> AnswerBody {
    let frames = stream::unfold(chunks.into_iter(), move |mut rest| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        match (rest.next(), end) {
            (Some(chunk), _) => Some((Ok(Frame::data(chunk)), rest)),
            (None, End::Proper) => None,
            (None, End::Stall) => std::future::pending().await,
            (None, End::Cut) => {
                // hyper drops what it has not flushed when a body fails, and flushes when a body is not ready.
                tokio::task::yield_now().await;
                Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), rest))
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_one_bit() {
        assert_eq!(flip(&[0, 0], 9)[..], [0, 2]);
        assert_eq!(flip(&[0, 0], 16)[..], [1, 0]);
    }
}
