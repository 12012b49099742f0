//! Whether a bucket keeps versions, known from its answers: not every key may ask, and not every store can be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;

/// Remembers it. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct VersionsSeen(Arc<AtomicBool>);

impl VersionsSeen {
    pub(super) fn look_at(&self, headers: &HeaderMap) {
        if names_a_version(headers) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// `null` is the version of an object in a bucket that keeps none, or no longer.
fn names_a_version(headers: &HeaderMap) -> bool {
    let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !matches!(of("x-amz-version-id"), "" | "null") || of("x-amz-delete-marker") == "true"
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_version_is_known_by_its_id_and_a_deletion_by_its_marker() {
        let names = |name: &'static str, value: &'static str| {
            names_a_version(&HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]))
        };
        assert!(names("x-amz-version-id", "3sL4kqtJlcpXroDTDmJ") && names("x-amz-delete-marker", "true"));
        assert!(!names("x-amz-version-id", "null") && !names("x-amz-delete-marker", "false"));
        assert!(!names("etag", "x"));
    }
}
