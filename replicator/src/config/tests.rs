//! Whole files, of both generations of Litestream, and files with everything wrong.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::bucket::settings::Settings;
use crate::host::OpenMode;
use crate::observe::{LogFormat, LogLevel};

fn environment() -> Environment {
    Environment {
        variables: [("BUCKET", "from-env"), ("DATA", "/data")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        working_dir: "/srv".into(),
        home_dir: Some("/home/me".into()),
        pid: 7,
    }
}

fn read(text: &str) -> Result<Config> {
    parse(text, true, &environment())
}

fn accept(text: &str) -> Config {
    let config = read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(config.warnings, [], "{text}");
    config
}

fn refuse(text: &str) -> String {
    let error = read(text).expect_err(text);
    error.to_string()
}

fn warnings(text: &str) -> String {
    let config = read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn only_database(config: &Config) -> &Database {
    match &config.databases[..] {
        [Entry::Database(database)] => database,
        other => panic!("{other:?}"),
    }
}

fn only_directory(config: &Config) -> &Directory {
    match &config.databases[..] {
        [Entry::Directory(directory)] => directory,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_file_has_litestreams_defaults() {
    for text in ["", "# nothing\n", "dbs:\n", "dbs: []\n"] {
        let config = accept(text);
        assert!(config.databases.is_empty());
        assert_eq!(config.logging, Logging::default());
    }
    let config = accept("dbs:\n- path: a.db\n  replica: { url: 's3://b/p' }\n");
    assert_eq!(only_database(&config).options, crate::sync::Options::new("/srv/a.db".into()));
}

#[test]
fn a_file_of_0_5_with_every_key_that_works() {
    let config = accept(include_str!("testdata/full.yml"));
    insta::assert_debug_snapshot!(config);
}

#[test]
fn a_file_of_0_3_works_unchanged() {
    let config = accept(
        "access-key-id: AKIA\nsecret-access-key: hush\ndbs:\n  - path: ${DATA}/app.db\n    replicas:\n      - type: s3\n        \
         bucket: $BUCKET\n        path: app\n        region: eu-west-1\n        retention: 72h\n        snapshot-interval: 12h\n        \
         sync-interval: 10s\n",
    );
    let database = only_database(&config);
    assert_eq!(database.options.db, Path::new("/data/app.db"));
    assert_eq!(database.options.meta_dir, Path::new("/data/.app.db-litestream"));
    assert_eq!(database.options.sync_interval, Duration::from_secs(10));
    assert_eq!(database.options.snapshot_interval, Duration::from_secs(12 * 3600));
    assert_eq!(database.options.snapshot_retention, Duration::from_secs(72 * 3600));
    let Settings::S3(s3) = &database.replica.settings else { panic!("{database:?}") };
    assert_eq!((s3.bucket.as_str(), s3.path.as_str()), ("from-env", "app"));
    assert_eq!(s3.access_key_id.as_deref(), Some("AKIA"));
    assert_eq!(s3.secret_access_key.as_ref().map(|secret| secret.expose()), Some("hush"));
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn retention_alone_in_0_3_was_also_the_snapshot_interval() {
    let config = accept("dbs:\n- path: a\n  replicas: [{url: 's3://b/p', retention: 1h}]\n");
    assert_eq!(only_database(&config).options.snapshot_interval, Duration::from_secs(3600));
}

#[test]
fn what_is_written_for_0_5_counts_more_than_what_0_3_left() {
    let text = "snapshot: {retention: 720h}\ndbs:\n- path: a\n  replica: {url: 's3://b/a', retention: 24h, snapshot-interval: 6h}\n";
    let config = parse(text, true, &environment()).unwrap();
    let options = &only_database(&config).options;
    assert_eq!(options.snapshot_retention, Duration::from_secs(720 * 3600));
    assert_eq!(options.snapshot_interval, Duration::from_secs(6 * 3600));
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["line 4: dbs[0].replica.retention: has no effect: snapshot.retention on line 1 counts"]
    );
}

#[test]
fn a_type_beside_a_url_that_says_otherwise_has_no_effect() {
    let text = "dbs:\n- path: a\n  replica: {type: file, url: 's3://b/p'}\n";
    let config = parse(text, true, &environment()).unwrap();
    assert!(matches!(only_database(&config).replica.settings, Settings::S3(_)));
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["line 3: dbs[0].replica.type: has no effect: the url on line 3 is of type \"s3\""]);
}

#[test]
fn levels_of_the_same_interval_are_accepted_and_a_second_document_is_named() {
    let levels = "levels: [{interval: 5m}, {interval: 5m}]\ndbs:\n- path: a\n  replica: {path: /r}\n";
    assert_eq!(only_database(&accept(levels)).options.levels, [Duration::from_secs(300); 2]);
    let error = refuse("dbs: []\n---\ndbs: []\n");
    assert!(error.contains("a second YAML document begins: remove the line `---`"), "{error}");
}

#[test]
fn of_two_snapshot_settings_the_one_that_is_not_written_gives_way() {
    let options = |snapshot: &str| {
        let text = format!("snapshot: {{{snapshot}}}\ndbs:\n- path: a\n  replica: {{url: 's3://b/a'}}\n");
        let options = only_database(&parse(&text, true, &environment()).unwrap()).options.clone();
        (options.snapshot_interval.as_secs() / 3600, options.snapshot_retention.as_secs() / 3600)
    };
    assert_eq!(options("retention: 1h"), (1, 1));
    assert_eq!(options("interval: 48h"), (48, 48));
    assert_eq!(options("interval: 12h"), (12, 24));
    assert_eq!(options("retention: 72h"), (24, 72));
}

#[test]
fn snapshot_settings_of_a_database_win_over_the_files() {
    let text = "snapshot: {interval: 6h, retention: 48h}\ndbs:\n- path: a\n  snapshot: {interval: 1h}\n  replica: {url: 's3://b/a'}\n\
                - path: b\n  replica: {url: 's3://b/b'}\n";
    let config = accept(text);
    let [Entry::Database(a), Entry::Database(b)] = &config.databases[..] else { panic!("{config:?}") };
    assert_eq!(a.options.snapshot_interval, Duration::from_secs(3600));
    assert_eq!(b.options.snapshot_interval, Duration::from_secs(6 * 3600));
    assert_eq!(a.options.snapshot_retention, b.options.snapshot_retention);
}

#[test]
fn zero_means_zero_or_is_refused_never_the_default() {
    let config = accept(
        "l0-retention: 0\nshutdown-sync-timeout: 0s\ndbs:\n- path: a\n  checkpoint-interval: 0\n  busy-timeout: 0s\n  \
         truncate-page-n: 0\n  replica: {path: /r}\n",
    );
    let options = &only_database(&config).options;
    assert_eq!(options.l0_retention, Duration::ZERO);
    assert_eq!(options.shutdown_timeout, Duration::ZERO);
    assert_eq!(options.checkpoint_interval, Duration::ZERO);
    assert_eq!(options.truncate_pages, None);
    for key in ["snapshot: {interval: 0}", "snapshot: {retention: 0s}", "l0-retention-check-interval: 0"] {
        assert!(refuse(key).contains("must be greater than 0"), "{key}");
    }
    for key in
        ["sync-interval: 0", "l0-retention: -5m", "shutdown-sync-timeout: -1s", "heartbeat-interval: 30s"]
    {
        refuse(key);
    }
    for key in
        ["monitor-interval: 0", "min-checkpoint-page-count: 0", "max-sync-wal-bytes: 0", "busy-timeout: -1s"]
    {
        refuse(&format!("dbs:\n- path: a\n  replica: {{path: /r}}\n  {key}\n"));
    }
}

#[test]
fn every_error_names_its_line_and_says_what_to_do() {
    insta::assert_snapshot!(refuse(include_str!("testdata/refused.yml")));
}

#[test]
fn every_oddity_is_warned_about() {
    insta::assert_snapshot!(warnings(include_str!("testdata/odd.yml")));
}

#[test]
fn encryption_is_never_silently_dropped() {
    for age in [
        "age: {recipients: [age1x]}",
        "age: {identities: [AGE-SECRET-KEY-1X]}",
        "age:",
        "age: {recipients: [$UNSET]}",
    ] {
        for text in [
            format!("dbs:\n- path: a\n  replicas:\n  - url: s3://b/p\n    {age}\n"),
            format!("{age}\ndbs:\n- path: a\n  replica:\n    url: s3://b/p\n"),
        ] {
            let error = read(&text).unwrap().check_writable().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}");
            assert!(error.to_string().starts_with("line "), "{error}");
            assert!(!format!("{:?}", read(&text).unwrap()).contains("SECRET"), "{text}");
        }
    }
    for key in ["age: {recipient: [age1x]}", "recipients: [age1x]", "encryption: on", "sse-customer-kye: x"] {
        let text = format!("dbs:\n- path: a\n  replica:\n    url: s3://b/p\n    {key}\n");
        assert!(refuse(&text).contains("line 5"), "{text}");
    }
    accept("dbs:\n- path: a\n  replica: {url: 's3://b/p'}\n").check_writable().unwrap();
}

#[test]
fn databases_of_a_directory_have_their_own_places() {
    let config = accept(
        "dbs:\n- dir: ~/dbs\n  pattern: '*.{db}'\n  recursive: yes\n  watch: on\n  replica: {url: 's3://b/base'}\n",
    );
    let directory = only_directory(&config);
    assert!(directory.recursive && directory.watch);
    assert!(directory.pattern.is_match("x.{db}") && !directory.pattern.is_match("x.db"));
    let database = directory.database(Path::new("sub/x.db"));
    assert_eq!(database.options.db, Path::new("/home/me/dbs/sub/x.db"));
    assert_eq!(database.options.meta_dir, Path::new("/home/me/dbs/sub/.x.db-litestream"));
    let Settings::S3(s3) = &database.replica.settings else { panic!("{database:?}") };
    assert_eq!(s3.path, "base/sub/x.db");

    for (key, expected) in
        [("meta-path", "/meta/sub/.x.db-litestream"), ("meta-dir", "/meta/sub/x.db-litestream")]
    {
        let config =
            accept(&format!("dbs:\n- dir: d\n  pattern: '*'\n  {key}: /meta\n  replica: {{path: /r}}\n"));
        let database = only_directory(&config).database(Path::new("sub/x.db"));
        assert_eq!(database.options.meta_dir, Path::new(expected));
        let Settings::Directory(place) = &database.replica.settings else { panic!("{database:?}") };
        assert_eq!(place.path, Path::new("/r/sub/x.db"));
    }
    let bare = accept("dbs:\n- dir: d\n  pattern: '*'\n  replica: {url: 's3://bucket'}\n");
    let Settings::S3(s3) = only_directory(&bare).database(Path::new("x.db")).replica.settings else {
        panic!()
    };
    assert_eq!(s3.path, "x.db");
}

#[test]
fn what_only_a_directory_has_is_harmless_beside_a_path() {
    let text = |key: &str| format!("dbs:\n- path: a\n  {key}\n  replica: {{path: /r}}\n");
    for key in ["recursive: true", "recursive: false", "pattern: '*.db'", "watch: false"] {
        let name = key.split(':').next().unwrap();
        let expected = format!("line 3: dbs[0].{name}: has no effect beside path: it is for dir");
        assert_eq!(warnings(&text(key)), expected);
    }
    for key in ["watch: true", "meta-dir: /m"] {
        assert!(refuse(&text(key)).contains("line 3: "), "{key}");
    }
}

/// Each half of a pair may stand where it likes, as long as no half is there twice.
#[test]
fn a_pair_of_keys_may_be_written_in_two_places() {
    let keys = |top: &str, own: &str| {
        let text = format!("{top}\ndbs:\n- path: a\n  replica: {{url: 's3://b/p', {own}}}\n");
        read(&text).map(|config| match &only_database(&config).replica.settings {
            Settings::S3(s3) => [
                s3.access_key_id.clone(),
                s3.secret_access_key.as_ref().map(|secret| secret.expose().to_owned()),
                s3.session_token.as_ref().map(|token| token.expose().to_owned()),
            ]
            .map(Option::unwrap_or_default),
            Settings::Directory(_) => panic!(),
        })
    };
    let (id, secret) = ("access-key-id: AKIA", "secret-access-key: hush");
    assert_eq!(keys(secret, id).unwrap(), ["AKIA", "hush", ""]);
    assert_eq!(keys(id, secret).unwrap(), ["AKIA", "hush", ""]);
    let all = format!("{id}\n{secret}\nsession-token: t");
    assert_eq!(keys(&all, id).unwrap(), ["AKIA", "hush", "t"]);
    assert_eq!(keys(&all, "access-key-id: B, secret-access-key: c").unwrap(), ["B", "c", ""]);
    for (top, own) in [(&*all, "access-key-id: OTHER"), (&*all, "secret-access-key: other"), ("", id)] {
        assert!(keys(top, own).unwrap_err().to_string().contains("beside it"), "{own}");
    }
}

/// What each of their databases is called in the replica tells them apart.
#[test]
fn directories_may_share_a_replica() {
    let one = |dir: &str, pattern: &str| {
        format!("- dir: {dir}\n  pattern: '{pattern}'\n  replica: {{url: 's3://b/base'}}\n")
    };
    for (dir, pattern) in [("/d", "*.sqlite"), ("/e", "*.db")] {
        let config = accept(&format!("dbs:\n{}{}", one("/d", "*.db"), one(dir, pattern)));
        assert_eq!(config.databases.len(), 2);
    }
    let database = "- path: /x.db\n  replica: {url: 's3://b/base'}\n";
    assert!(refuse(&format!("dbs:\n{database}{}", one("/d", "*.db"))).contains("uses the replica"));
}

/// `reset` would remove the replica with the local state.
#[test]
fn a_replica_among_local_state_is_refused() {
    let one =
        |replica: &str| format!("dbs:\n- path: /d/a.db\n  meta-path: /m\n  replica: {{path: {replica}}}\n");
    for replica in ["/m", "/m/.", "/m/ltx", "/m/ltx/0", "/m/replicator/a"] {
        let error = refuse(&one(replica));
        assert!(error.contains("local state in /m") && error.contains("line 2"), "{error}");
    }
    for replica in ["/m/backup", "/", "/m2", "/m/ltx2"] {
        accept(&one(replica));
    }
    let other = "- path: /d/b.db\n  replica: {url: 's3://b/b'}\n  meta-path: /backup/a\n";
    assert!(refuse(&format!("{}{other}", one("/backup/a"))).contains("local state in /backup/a"));
    accept(&format!("{}- dir: /e\n  pattern: '*.db'\n  replica: {{path: /m}}\n", one("/backup/a")));

    let typed = |url: &str| from_arguments("/d/a.db", url, &environment());
    assert!(typed("file:///d/.a.db-litestream").unwrap_err().message().contains("local state"));
    typed("file:///d/backup").unwrap();
}

#[test]
fn an_endpoint_that_is_not_written_comes_from_the_environment() {
    let mut environment = environment();
    let endpoint = |settings: &Settings| match settings {
        Settings::S3(s3) => s3.endpoint.clone(),
        Settings::Directory(_) => None,
    };
    let in_file = |text: &str, environment: &Environment| {
        endpoint(&only_database(&parse(text, true, environment).unwrap()).replica.settings)
    };
    let text = "dbs:\n- path: a\n  replica: {type: s3, bucket: b, path: p}\n";
    assert_eq!(in_file(text, &environment), None);
    // Each of them goes before those above it.
    for (name, value) in [
        ("AWS_ENDPOINT_URL", "https://all.example"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
        ("LITESTREAM_S3_ENDPOINT", "s3.us-west-002.backblazeb2.com"),
    ] {
        environment.variables.insert(name.to_owned(), value.to_owned());
        assert_eq!(in_file(text, &environment).as_deref(), Some(value));
        let (replica, ..) = replica_from_url("s3://b/p", &environment).unwrap();
        assert_eq!(endpoint(&replica.settings).as_deref(), Some(value));
        for aws in ["s3://b.s3.eu-west-1.amazonaws.com/p", "s3://arn:aws:s3:eu-west-1:1:accesspoint/n/p"] {
            let (replica, ..) = replica_from_url(aws, &environment).unwrap();
            assert_eq!(endpoint(&replica.settings), None, "keys go where the URL says");
        }
    }
    let written = "dbs:\n- path: a\n  replica: {type: s3, bucket: b, path: p, endpoint: mine.example}\n";
    assert_eq!(in_file(written, &environment).as_deref(), Some("mine.example"));
    environment.variables.remove("LITESTREAM_S3_ENDPOINT");
    environment.variables.insert("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS".to_owned(), "true".to_owned());
    assert_eq!(in_file(text, &environment), None);
}

#[test]
fn logging_level_comes_from_the_environment_first() {
    let mut environment = environment();
    let text = "logging: {level: warn, type: json, stderr: true}\n";
    let logging = |environment: &Environment| parse(text, true, environment).unwrap().logging;
    let expected = Logging { level: LogLevel::Warn, format: LogFormat::Json, stderr: true };
    assert_eq!(logging(&environment), expected);
    environment.variables.insert("LOG_LEVEL".to_owned(), "DEBUG".to_owned());
    assert_eq!(logging(&environment).level, LogLevel::Debug);
    environment.variables.insert("LOG_LEVEL".to_owned(), "loud".to_owned());
    let parsed = parse(text, true, &environment).unwrap();
    assert_eq!(parsed.logging.level, LogLevel::Warn, "it may be meant for the application");
    assert!(parsed.warnings[0].to_string().contains("LOG_LEVEL: \"loud\" is not a log level"));
}

#[test]
fn environment_expansion_can_be_turned_off() {
    let text = "dbs:\n- path: /a/$BUCKET.db\n  replica: {path: /r}\n";
    let plain = parse(text, false, &environment()).unwrap();
    assert_eq!(only_database(&plain).options.db, Path::new("/a/$BUCKET.db"));
}

#[test]
fn the_file_is_found_by_flag_then_environment_then_default() {
    let mut environment = environment();
    let found = |flag, environment: &Environment| path(flag, environment).unwrap();
    assert_eq!(found(None, &environment), Path::new(DEFAULT_PATH));
    environment.variables.insert("LITESTREAM_CONFIG".to_owned(), "~/ls.yml".to_owned());
    assert_eq!(found(None, &environment), Path::new("/home/me/ls.yml"));
    assert_eq!(found(Some("x.yml"), &environment), Path::new("/srv/x.yml"));
}

#[test]
fn loading_names_the_file() {
    let host = crate::host::os::host();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("litestream.yml");
    let missing = load(&*host.disk, &file, true, &environment()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("litestream.yml"));
    let write = |text: &[u8]| {
        let open = host.disk.open(&file, OpenMode::Truncate).unwrap();
        open.write_all_at(text, 0).unwrap();
    };
    write(b"dbs: 5\n");
    let wrong = load(&*host.disk, &file, true, &environment()).unwrap_err().to_string();
    assert!(wrong.contains("litestream.yml: line 1: dbs: expected a list"), "{wrong}");
    write(b"\xff\xfe");
    assert!(load(&*host.disk, &file, true, &environment()).is_err());
    write(b"addr: ':9090'\n");
    assert_eq!(load(&*host.disk, &file, true, &environment()).unwrap().source.as_deref(), Some(&*file));
}
