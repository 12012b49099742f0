//! Settings that have helped others where a request is refused. Pure.

use crate::bucket::settings::S3Settings;

/// One change of settings.
pub(super) struct Remedy {
    /// The line of a configuration that makes it.
    pub advice: String,
    /// The settings with it.
    pub settings: S3Settings,
}

/// Changes to try when the bucket cannot be reached or written as configured, one at a time, the likeliest first.
pub(super) fn remedies(settings: &S3Settings) -> Vec<Remedy> {
    let mut all = Vec::new();
    let mut add = |advice: &str, change: &dyn Fn(&mut S3Settings)| {
        let mut changed = settings.clone();
        change(&mut changed);
        if changed != *settings {
            all.push(Remedy { advice: advice.to_owned(), settings: changed });
        }
    };
    // Path style is the default on every endpoint but AWS.
    let is_path = settings.force_path_style.unwrap_or(settings.endpoint.is_some());
    add(&format!("force-path-style: {}", !is_path), &|s| s.force_path_style = Some(!is_path));
    if settings.sign_payload == Some(false) {
        add("sign-payload: true", &|s| s.sign_payload = Some(true));
    }
    if settings.region.is_some() {
        add("region: leave it out, the server names its own", &|s| s.region = None);
    }
    if settings.storage_class.is_some() {
        add("storage-class: leave it out", &|s| s.storage_class = None);
    }
    if settings.concurrency != Some(1) {
        add("concurrency: 1", &|s| s.concurrency = Some(1));
    }
    let digest = settings.require_content_md5.unwrap_or(true);
    add(&format!("require-content-md5: {}", !digest), &|s| s.require_content_md5 = Some(!digest));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(settings: &S3Settings) -> Vec<String> {
        remedies(settings).into_iter().map(|remedy| remedy.advice).collect()
    }

    #[test]
    fn only_changes_are_proposed() {
        let aws = advice(&S3Settings::default());
        assert_eq!(aws, ["force-path-style: true", "concurrency: 1", "require-content-md5: false"]);
        let unsigned = S3Settings {
            endpoint: Some("s3.example".to_owned()),
            region: Some("eu".to_owned()),
            sign_payload: Some(false),
            require_content_md5: Some(false),
            ..S3Settings::default()
        };
        let found = advice(&unsigned);
        assert_eq!(found[..2], ["force-path-style: false", "sign-payload: true"]);
        assert!(found.contains(&"require-content-md5: true".to_owned()), "{found:?}");
    }
}
