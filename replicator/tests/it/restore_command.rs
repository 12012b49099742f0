//! `restore` from the command line: what each flag does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conformance::server::{Fault, FaultPlan, RequestFacts, Verb};
use conformance::site::Site;

use crate::service::{Desk, insert, rows};

/// A replica with transactions 1 (3 rows) and 2 (5 rows), listed in `c.yml`.
fn replica() -> (Desk, String) {
    let desk = Desk::new();
    let url = format!("file://{}", desk.path("backup").display());
    desk.write("c.yml", "dbs:\n- path: app.db\n  replicas:\n  - name: main\n    path: backup\n");
    let db = desk.app("app.db");
    for count in [3, 2] {
        insert(&db, count);
        let (code, log) = desk.run(&["replicate", "-once", "app.db", &url]);
        assert_eq!(code, 0, "{log}");
    }
    (desk, url)
}

fn restored(desk: &Desk, flags: &[&str], url: &str) -> i64 {
    let _ = std::fs::remove_file(desk.path("out.db"));
    let line: Vec<&str> = ["restore", "-o", "out.db"].iter().chain(flags).copied().chain([url]).collect();
    let (code, log) = desk.run(&line);
    assert_eq!(code, 0, "{flags:?}: {log}");
    rows(&desk.path("out.db"))
}

#[test]
fn each_flag_acts() {
    let (desk, url) = replica();
    assert_eq!(restored(&desk, &[], &url), 5);
    assert_eq!(restored(&desk, &["-txid", "0000000000000001"], &url), 3);
    assert_eq!(restored(&desk, &["-parallelism", "1", "-integrity-check", "full"], &url), 5);
    assert_eq!(restored(&desk, &["-timestamp", "2100-01-01T00:00:00Z"], &url), 5);
    let (early, log) = desk.run(&["restore", "-o", "early.db", "-timestamp", "2000-01-01T00:00:00Z", &url]);
    assert_eq!(early, 1, "{log}");
    assert!(!desk.path("early.db").exists());

    // The output exists: an error, left alone, or replaced.
    let (code, log) = desk.run(&["restore", "-o", "out.db", &url]);
    assert!(code == 1 && log.contains("-force"), "{log}");
    let (code, log) = desk.run(&["restore", "-o", "out.db", "-if-db-not-exists", &url]);
    assert!(code == 0 && log.contains("already exists"), "{log}");
    std::fs::write(desk.path("out.db"), "something else").unwrap();
    assert_eq!(desk.run(&["restore", "-o", "out.db", "-force", &url]).0, 0);
    assert_eq!(rows(&desk.path("out.db")), 5);

    // By its name in the configuration, to another place and to its own.
    let line = ["restore", "-config", "c.yml", "-replica", "main", "-o", "named.db", "app.db"];
    assert_eq!(desk.run(&line).0, 0);
    assert_eq!(rows(&desk.path("named.db")), 5);
    let (code, log) = desk.run(&["restore", "-config", "c.yml", "-v", "-if-db-not-exists", "app.db"]);
    assert!(code == 0 && log.contains("already exists"), "{log}");
}

#[test]
fn an_empty_replica_is_an_error_unless_allowed() {
    let desk = Desk::new();
    let url = format!("file://{}", desk.path("nothing").display());
    let (code, log) = desk.run(&["restore", "-o", "out.db", &url]);
    assert!(code == 1 && log.contains("no matching backup files available"), "{log}");
    let (code, log) = desk.run(&["restore", "-o", "out.db", "-if-replica-exists", &url]);
    assert!(code == 0 && log.contains("no matching backups found"), "{log}");
    assert!(!desk.path("out.db").exists());
}

/// Standard output of a successful run, as JSON.
fn json(desk: &Desk, arguments: &[&str]) -> serde_json::Value {
    let output = desk.command(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn json_is_the_only_thing_on_standard_output() {
    let (desk, _) = replica();
    let line = ["restore", "-config", "c.yml", "-json", "-o", "out.db", "app.db"];
    let plan = json(&desk, &[&line[..], &["-dry-run"]].concat());
    assert!(!desk.path("out.db").exists());
    assert_eq!((&plan["source"], &plan["replica"]), (&"app.db".into(), &"file".into()));
    assert_eq!(plan["target_path"], desk.path("out.db").display().to_string());
    assert_eq!(
        (&plan["min_txid"], &plan["max_txid"]),
        (&"0000000000000001".into(), &"0000000000000002".into())
    );
    let file = plan["files"][0].as_object().unwrap();
    let keys: Vec<&str> = file.keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in ["level", "name", "min_txid", "max_txid", "size", "timestamp"] {
        assert!(file.contains_key(key), "{key}");
    }

    let result = json(&desk, &line);
    assert_eq!(result["db_path"], desk.path("out.db").display().to_string());
    assert_eq!((&result["replica"], &result["txid"]), (&"file".into(), &"0000000000000002".into()));
    assert_eq!(result["integrity_check"], "quick");
    assert!(result["duration_ms"].is_u64());
}

#[test]
fn a_dry_run_prints_the_plan() {
    let (desk, url) = replica();
    let (code, text) = desk.run(&["restore", "-o", "out.db", "-dry-run", &url]);
    assert_eq!(code, 0, "{text}");
    for line in [
        "Restore plan:",
        "  replica: file",
        "  txid range: 0000000000000001 - 0000000000000002",
        "level  file",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!desk.path("out.db").exists());
}

/// A backup that Litestream 0.3.13 made.
#[test]
fn a_backup_of_0_3_is_restored_by_generation_and_index() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/golden/0.3.13-4096");
    let url = format!("file://{}", golden.canonicalize().unwrap().display());
    let desk = Desk::new();
    let generation = "24a7e1693b7ea52a";
    let size = |flags: &[&str]| {
        let line: Vec<&str> =
            ["restore", "-force", "-o", "out.db"].iter().chain(flags).copied().chain([&*url]).collect();
        let (code, log) = desk.run(&line);
        assert_eq!(code, 0, "{flags:?}: {log}");
        std::fs::metadata(desk.path("out.db")).unwrap().len()
    };
    let latest = size(&[]);
    assert_eq!(size(&["-generation", generation]), latest);
    assert!(size(&["-index", "00000001"]) <= latest);
    let plan = json(&desk, &["restore", "-dry-run", "-json", "-o", "x.db", &url]);
    assert!(plan["files"].as_array().unwrap().len() > 1, "{plan}");
    let (code, log) = desk.run(&["restore", "-o", "x.db", "-generation", "0000000000000000", &url]);
    assert_eq!(code, 1, "{log}");
}

/// Which of two backups is restored goes by the times of the store, which a copy changes: nobody should have to guess.
#[test]
fn a_backup_of_0_3_beside_a_newer_one_is_named() {
    let (desk, url) = replica();
    let (_, log) = desk.run(&["restore", "-force", "-o", "out.db", &url]);
    assert!(!log.contains("Litestream 0.3"), "{log}");
    let key = "generations/24a7e1693b7ea52a/snapshots/00000001.snapshot.lz4";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/golden/0.3.13-4096").join(key);
    let copy = desk.path("backup").join(key);
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::copy(golden, &copy).unwrap();
    let touch = |seconds| {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
    };
    for (seconds, format) in
        [(1_000_000_000, "restoring from the LTX files"), (9_000_000_000, "restoring from a generation")]
    {
        touch(seconds);
        let (code, log) = desk.run(&["restore", "-force", "-o", "out.db", &url]);
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("level=WARN") && log.contains(format), "{log}");
    }
}

#[test]
fn doctor_and_version_answer_for_machines_and_people() {
    let (desk, _) = replica();
    let answer = json(&desk, &["doctor", "-json", "-config", "c.yml"]);
    let places = answer.as_array().unwrap();
    assert_eq!(places.len(), 1, "{answer}");
    assert!(places[0].to_string().contains("usable"), "{answer}");
    let (code, short) = desk.run(&["version"]);
    assert_eq!(code, 0);
    std::fs::write(desk.path("log"), "").unwrap();
    let (code, verbose) = desk.run(&["version", "-verbose"]);
    assert_eq!(code, 0);
    assert!(!short.contains("SQLite") && verbose.contains("SQLite"), "{short}\n{verbose}");
}

/// GETs that the server has begun and not answered, and the most of them at a time.
#[derive(Default)]
struct InFlight {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl FaultPlan for InFlight {
    fn decide(&self, request: &RequestFacts) -> Fault {
        if request.verb != Verb::GetObject {
            return Fault::default();
        }
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Long enough for all that may come at the same time.
        Fault { delay: Duration::from_millis(300), ..Fault::default() }
    }

    fn answered(&self, request: &RequestFacts, _status: Option<u16>) {
        if request.verb == Verb::GetObject {
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One was two: the next piece was asked for while the one before was on its way.
#[test]
fn parallelism_is_the_number_of_requests_in_flight() {
    let (desk, site) = (Desk::new(), Site::embedded().unwrap());
    let db = desk.app("app.db");
    db.execute("INSERT INTO t VALUES (randomblob(20000000))", []).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = desk.command(arguments);
        let output = command.envs(site.environment.iter().cloned()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["replicate", "-once", "app.db", &site.url]);
    for parallelism in [1, 4] {
        let seen = Arc::new(InFlight::default());
        site.server().unwrap().set_faults(seen.clone());
        run(&["restore", "-force", "-o", "out.db", "-parallelism", &parallelism.to_string(), &site.url]);
        assert_eq!(seen.most.load(Ordering::SeqCst), parallelism);
    }
    assert_eq!(rows(&desk.path("out.db")), 1);
}

/// A row that is in an index with another value: the quick check only counts.
#[test]
fn integrity_checks_differ_in_what_they_find() {
    let desk = Desk::new();
    let url = format!("file://{}", desk.path("backup").display());
    let db = desk.app("app.db");
    insert(&db, 20);
    db.execute_batch("CREATE INDEX by_x ON t(x)").unwrap();
    let hide = |from: &str, to: &str| {
        // In a connection of its own, because a schema is read once.
        let db = rusqlite::Connection::open(desk.path("app.db")).unwrap();
        db.execute_batch(&format!(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE name = 'by_x';"
        ))
        .unwrap();
    };
    drop(db);
    hide("ON t(x)", "ON t(x) WHERE x IS NULL");
    let db = desk.app("app.db");
    db.execute("UPDATE t SET x = 'in no index' WHERE rowid = 1", []).unwrap();
    drop(db);
    hide("ON t(x) WHERE x IS NULL", "ON t(x)");
    assert_eq!(desk.run(&["replicate", "-once", "app.db", &url]).0, 0);
    for check in ["quick", "none"] {
        assert_eq!(restored(&desk, &["-integrity-check", check], &url), 20);
    }
    let line = ["restore", "-o", "full.db", "-integrity-check", "full", &url];
    let (code, log) = desk.run(&line);
    assert!(code == 1 && log.contains("by_x"), "{log}");
    assert!(!desk.path("full.db").exists());
}
