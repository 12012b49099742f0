//! Which keys a path means: Litestream joins LTX keys with the path as it is written, and 0.3.x keys after cleaning.

use conformance::server::ErrorAnswer;

use super::*;

const OBJECT: &str = "generations/0123456789abcdef/snapshots/00000000.snapshot.lz4";

/// Puts an object under a key of the server's bucket.
fn plant(loopback: &Loopback, key: &str) {
    let stamp = conformance::server::Stamp { at: 0, request: 0 };
    let object = conformance::server::store::Object {
        body: Bytes::from_static(b"x"),
        ..conformance::server::store::Object::default()
    };
    let none = conformance::server::store::Condition::None;
    loopback.server().store().put(stamp, "bucket", key, object, &none).unwrap();
}

/// A path, and what its keys of 0.3.x and of LTX files begin with.
const PATHS: [(&str, &str, &str); 8] = [
    ("", "", "/"),
    (".", "", "./"),
    ("/", "/", "//"),
    ("db", "db/", "db/"),
    ("db/", "db/", "db//"),
    ("/db", "/db/", "/db/"),
    ("./a//b/", "a/b/", "./a//b//"),
    ("a/../b", "b/", "a/../b/"),
];

#[tokio::test]
async fn keys_of_0_3_are_those_of_the_cleaned_path() {
    for (path, legacy, ltx) in PATHS {
        let loopback = serve(Dialect::default()).await;
        let bucket = open(S3Settings { path: path.to_owned(), ..settings(&loopback) }).await;
        plant(&loopback, &format!("{legacy}{OBJECT}"));
        let listed = bucket.list("generations/", None).await.unwrap();
        assert_eq!(listed.iter().map(|object| &*object.key).collect::<Vec<_>>(), [OBJECT], "{path:?}");
        assert_eq!(bucket.list("generations/", Some(OBJECT)).await.unwrap(), [], "{path:?}");
        assert_eq!(bucket.head(OBJECT).await.unwrap().unwrap().key, OBJECT, "{path:?}");
        assert_eq!(text(&*bucket, OBJECT).await, "x", "{path:?}");

        let key = "0000/0000000000000001-0000000000000001.ltx";
        put(&*bucket, key, "y").await.unwrap();
        let latest = conformance::server::store::Moment::Latest;
        let stored =
            loopback.server().store().version("bucket", &format!("{ltx}{key}"), latest).unwrap().is_some();
        assert!(stored, "{path:?}");
        assert_eq!(bucket.list("0", None).await.unwrap()[0].key, key, "{path:?}");

        for key in [OBJECT, key] {
            script(&loopback, Verb::DeleteObject, [Outcome::Refuse(ErrorAnswer::new(403, "AccessDenied"))]);
            let failures = bucket.delete(&[key.to_owned()]).await.unwrap();
            assert_eq!(failures.iter().map(|failure| &*failure.key).collect::<Vec<_>>(), [key], "{path:?}");
            assert!(bucket.delete(&[key.to_owned()]).await.unwrap().is_empty());
            assert_eq!(bucket.head(key).await.unwrap(), None, "{path:?}");
        }
    }
}
