//! Signatures: which right ones are taken, and whether wrong ones are refused.

use http::Method;

use super::Need::{Optional, Required, Setting};
use super::{Check, Complaint, Probe, check, ensure};
use crate::client::{Answer, Signing};

pub(super) const CHECKS: &[Check] = &[
    check!(
        "auth.signed-payload",
        Required,
        2,
        4,
        "SigV4 with the body's SHA-256 is accepted",
        "the one way of signing that every provider takes",
        signed_payload
    ),
    check!(
        "auth.unsigned-payload",
        Setting("sign-payload: true"),
        2,
        4,
        "SigV4 with UNSIGNED-PAYLOAD is accepted",
        "refused by Filebase, Hetzner and by AWS bucket policies (litestream#811, #895, #913)",
        unsigned_payload
    ),
    check!(
        "auth.wrong-secret",
        Required,
        2,
        4,
        "a signature made with another secret is refused with 403, and nothing is written",
        "an endpoint that takes any signature is open to everybody",
        wrong_secret
    ),
    check!(
        "auth.wrong-key",
        Required,
        2,
        4,
        "an unknown key id is refused, and not with NoSuchKey",
        "a mistyped key must be told apart from an empty bucket",
        wrong_key
    ),
    check!(
        "auth.wrong-key-status",
        Optional,
        2,
        4,
        "an unknown key id is refused with 403 or 401",
        "versitygw answers 404, which a client may take for an absent object",
        wrong_key_status
    ),
    check!(
        "auth.anonymous",
        Required,
        2,
        4,
        "a request without a signature is refused",
        "the bucket holds the whole database",
        anonymous
    ),
    check!(
        "auth.error-has-code",
        Required,
        1,
        4,
        "a refusal carries an S3 error code in XML",
        "the replicator decides by the code whether to retry, and shows it to the user",
        error_has_code
    ),
    check!(
        "auth.list-refused-is-error",
        Required,
        1,
        4,
        "a listing with a wrong key is an error, not an empty list",
        "an empty list means `no backup` to restore, and `start over` to replication",
        list_refused
    ),
    check!(
        "auth.tampered-body",
        Optional,
        2,
        4,
        "a body that is not the one signed is refused",
        "this is what protects a plain-http upload on its way",
        tampered_body
    ),
    check!(
        "auth.small-skew",
        Required,
        1,
        4,
        "a request dated five minutes back is accepted",
        "clocks of small machines drift",
        small_skew
    ),
    check!(
        "auth.large-skew",
        Optional,
        1,
        4,
        "a request dated an hour ahead is refused",
        "the replicator learns from the refusal that its clock is wrong; timestamps in the replica depend on it",
        large_skew
    ),
    check!(
        "auth.any-region",
        Setting("region: the bucket's own"),
        2,
        4,
        "the region in the signature does not matter",
        "where it does, a bucket outside us-east-1 needs its region configured (litestream#427)",
        any_region
    ),
    check!(
        "auth.extra-query-key",
        Setting("nothing: the client must leave out the SDK's x-id query key"),
        2,
        4,
        "a request with the SDK's x-id query key is accepted",
        "Supabase computed signatures without it and refused every call (litestream#1133)",
        extra_query_key
    ),
    check!(
        "auth.signed-accept-encoding",
        Setting("sign-accept-encoding: false"),
        2,
        4,
        "a signature that covers Accept-Encoding is accepted",
        "Google's front end rewrites the header before the check (litestream#1394)",
        signed_accept_encoding
    ),
    check!(
        "auth.foreign-token",
        Optional,
        1,
        4,
        "a session token that does not belong to the key is refused",
        "temporary keys: an expired token must not pass for a valid one",
        foreign_token
    ),
    check!(
        "auth.sorted-query",
        Required,
        1,
        4,
        "a signed request with a query of several keys is accepted",
        "listings sign their query, sorted; proxies reorder it",
        sorted_query
    ),
];

async fn put_with(probe: &Probe, signing: Signing) -> Result<Answer, Complaint> {
    probe.send(&probe.call(Method::PUT, "object").body("some bytes").signing(signing)).await
}

async fn accepted(probe: &Probe, signing: Signing) -> Result<(), Complaint> {
    let answer = put_with(probe, signing).await?;
    ensure!(answer.status == 200, "PUT was answered {}", answer.describe());
    probe.holds("object", b"some bytes").await
}

async fn refused(probe: &Probe, signing: Signing) -> Result<Answer, Complaint> {
    let answer = put_with(probe, signing).await?;
    ensure!(answer.status.is_client_error(), "PUT was answered {}", answer.describe());
    probe.absent("object").await?;
    Ok(answer)
}

async fn signed_payload(probe: &Probe) -> Result<(), Complaint> {
    accepted(probe, Signing::Payload).await
}

async fn unsigned_payload(probe: &Probe) -> Result<(), Complaint> {
    accepted(probe, Signing::UnsignedPayload).await
}

async fn wrong_secret(probe: &Probe) -> Result<(), Complaint> {
    let answer = refused(probe, Signing::WrongSecret).await?;
    ensure!(answer.status == 403, "PUT was answered {}, not 403", answer.describe());
    Ok(())
}

async fn wrong_key(probe: &Probe) -> Result<(), Complaint> {
    let answer = refused(probe, Signing::WrongKey).await?;
    ensure!(answer.code() != "NoSuchKey", "PUT was answered {}", answer.describe());
    Ok(())
}

async fn wrong_key_status(probe: &Probe) -> Result<(), Complaint> {
    let answer = refused(probe, Signing::WrongKey).await?;
    let status = answer.status.as_u16();
    ensure!(matches!(status, 401 | 403), "PUT was answered {}, not 403", answer.describe());
    Ok(())
}

async fn anonymous(probe: &Probe) -> Result<(), Complaint> {
    refused(probe, Signing::Anonymous).await.map(drop)
}

async fn error_has_code(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.send(&probe.call(Method::GET, "object").signing(Signing::WrongSecret)).await?;
    ensure!(!answer.code().is_empty(), "the {} answer has no <Code>", answer.describe());
    Ok(())
}

async fn list_refused(probe: &Probe) -> Result<(), Complaint> {
    let call =
        crate::client::Call::new(Method::GET, "").query("list-type", "2").signing(Signing::WrongSecret);
    let answer = probe.send(&call).await?;
    ensure!(!answer.status.is_success(), "the listing was answered {}", answer.describe());
    Ok(())
}

async fn tampered_body(probe: &Probe) -> Result<(), Complaint> {
    refused(probe, Signing::OtherBody).await.map(drop)
}

async fn small_skew(probe: &Probe) -> Result<(), Complaint> {
    let answer = put_with(probe, Signing::Skewed(-300)).await?;
    ensure!(answer.status == 200, "PUT was answered {}", answer.describe());
    Ok(())
}

async fn large_skew(probe: &Probe) -> Result<(), Complaint> {
    let answer = put_with(probe, Signing::Skewed(3600)).await?;
    ensure!(answer.status.is_client_error(), "PUT was answered {}", answer.describe());
    Ok(())
}

async fn any_region(probe: &Probe) -> Result<(), Complaint> {
    accepted(probe, Signing::OtherRegion).await
}

async fn extra_query_key(probe: &Probe) -> Result<(), Complaint> {
    let put = probe.call(Method::PUT, "object").query("x-id", "PutObject").body("some bytes");
    probe.expect(&put, 200).await?;
    probe.holds("object", b"some bytes").await
}

async fn signed_accept_encoding(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "some bytes").await?;
    probe
        .expect(&probe.call(Method::GET, "object").header("accept-encoding", "identity"), 200)
        .await
        .map(drop)
}

async fn foreign_token(probe: &Probe) -> Result<(), Complaint> {
    let answer = put_with(probe, Signing::ForeignToken).await?;
    ensure!(answer.status.is_client_error(), "PUT was answered {}", answer.describe());
    Ok(())
}

async fn sorted_query(probe: &Probe) -> Result<(), Complaint> {
    probe.page("", &[("start-after", "a"), ("max-keys", "3"), ("fetch-owner", "false")]).await.map(drop)
}
