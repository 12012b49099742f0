//! What answers mean.

use super::*;

fn answered(status: u16, code: &str) -> Failure {
    Failure {
        status: Some(status),
        code: (!code.is_empty()).then(|| code.into()),
        cause: Cause::Answered,
        ..Failure::bad_answer("")
    }
}

#[test]
fn answers_by_status_and_code() {
    use ErrorKind::*;
    for (status, code, cure, kind) in [
        (408, "RequestCanceled", Cure::Wait, Transient),
        (429, "", Cure::Wait, Transient),
        (500, "InternalError", Cure::Wait, Transient),
        (503, "SlowDown", Cure::Wait, Transient),
        (504, "", Cure::Wait, Transient),
        (409, "OperationAborted", Cure::Wait, Transient),
        (400, "RequestTimeout", Cure::Wait, Transient),
        (200, "InternalError", Cure::Wait, Transient),
        (501, "NotImplemented", Cure::None, Unsupported),
        (400, "InvalidRequest", Cure::None, Unsupported),
        (403, "AccessDenied", Cure::None, Denied),
        (403, "SignatureDoesNotMatch", Cure::None, Denied),
        (403, "RequestTimeTooSkewed", Cure::Clock, Denied),
        (400, "ExpiredToken", Cure::Credentials, Denied),
        (404, "NoSuchKey", Cure::None, NotFound),
        (404, "", Cure::None, NotFound),
        (404, "NoSuchBucket", Cure::None, Unsupported),
        (412, "PreconditionFailed", Cure::None, Conflict),
        (507, "", Cure::Wait, Exhausted),
    ] {
        let failure = answered(status, code);
        let seen = (failure.cure(UnixMillis(0)), failure.kind(Verb::Get));
        assert_eq!(seen, (cure, kind), "{status} {code}");
    }
}

/// Every 404 used to say that the object is not there, to a request that writes one too.
#[test]
fn absence_depends_on_what_was_asked() {
    for code in ["", "NotFound", "NoSuchKey", "NoSuchUpload"] {
        for (verb, kind) in [
            (Verb::Get, ErrorKind::NotFound),
            (Verb::Head, ErrorKind::NotFound),
            (Verb::List, ErrorKind::Unsupported),
            (Verb::Put, ErrorKind::Transient),
            (Verb::Delete, ErrorKind::Transient),
        ] {
            assert_eq!(answered(404, code).kind(verb), kind, "{verb:?} {code}");
        }
        let is_code_of_the_store = code.starts_with("NoSuch");
        assert_eq!(answered(404, code).is_already_gone(), is_code_of_the_store, "{code}");
    }
    for verb in [Verb::Put, Verb::List, Verb::Delete] {
        assert_eq!(answered(404, "NoSuchBucket").kind(verb), ErrorKind::Unsupported, "{verb:?}");
    }
    assert!(!answered(404, "NoSuchBucket").is_already_gone());
}

#[test]
fn regions_are_followed_once_they_differ() {
    let named = || Failure { region: Some("eu-west-1".into()), ..answered(301, "PermanentRedirect") };
    let cure = |failure: Failure| failure.cure(UnixMillis(0));
    assert_eq!(cure(answered(301, "PermanentRedirect").signed(0, "us-east-1")), Cure::None);
    assert_eq!(cure(named().signed(0, "us-east-1")), Cure::Region("eu-west-1".into()));
    assert_eq!(cure(named().signed(0, "eu-west-1")), Cure::None);
    assert_eq!(element("<Error><Region>eu-west-1</Region></Error>", "Region"), Some("eu-west-1"));
}

#[test]
fn ambiguity() {
    for (failure, expected) in [
        (answered(503, "SlowDown"), true),
        (answered(200, "InternalError"), true),
        (answered(408, ""), true),
        (answered(403, "AccessDenied"), false),
        (answered(412, ""), false),
        (Failure::bad_answer("cut"), true),
    ] {
        assert_eq!(failure.is_ambiguous(), expected, "{failure:?}");
    }
}
