//! Many databases, and directories of them.

use std::sync::Arc;
use std::time::Duration;

use conformance::process::{Process, wait_for};
use conformance::server::{Outcome, RequestFacts};
use conformance::site::Site;
use rusqlite::Connection;

use crate::scene::{PATIENCE, scrape};
use crate::service::{Desk, insert, wait_for_text};

/// Looking whether it is a database opened and closed it, which dropped the locks that hold it in its place: another
/// process could take it out of WAL mode, log and all.
#[test]
fn a_link_to_a_replicated_database_costs_it_no_locks() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    insert(&db, 2);
    std::fs::create_dir(desk.path("tenants")).unwrap();
    std::fs::hard_link(desk.path("app.db"), desk.path("tenants/hard.db")).unwrap();
    std::os::unix::fs::symlink("../app.db", desk.path("tenants/soft.db")).unwrap();
    desk.write(
        "c.yml",
        "dbs:\n- path: app.db\n  replica: {path: backup}\n- dir: tenants\n  pattern: '*.db'\n  watch: true\n  \
         replica: {path: backups}\n",
    );
    let process = desk.start(&["replicate", "-config", "c.yml"]);
    wait_for_text(&process, "full copy complete");
    drop(db);
    // A database of its own is found by the same look that comes across the links.
    let _other = desk.app("tenants/late.db");
    wait_for("a copy of late.db", PATIENCE, || desk.path("backups/late.db/ltx").is_dir().then_some(()))
        .unwrap();
    let app = Connection::open(desk.path("app.db")).unwrap();
    app.busy_timeout(Duration::ZERO).unwrap();
    let left = app.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
    assert!(left.is_err() || left.as_deref() == Ok("wal"), "{left:?}");
    for link in ["hard.db", "soft.db"] {
        assert!(!desk.path("backups").join(link).exists(), "{link} is not a database of its own");
        assert_eq!(process.output().matches(&format!("tenants/{link}")).count(), 1, "{}", process.output());
    }
    process.terminate(PATIENCE).unwrap();
}

#[test]
fn the_same_file_by_two_paths_is_refused() {
    let desk = Desk::new();
    let _db = desk.app("app.db");
    std::os::unix::fs::symlink("app.db", desk.path("link.db")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    desk.write(
        "c.yml",
        &format!(
            "addr: 127.0.0.1:{port}\ndbs:\n- {{path: app.db, replica: {{path: backup}}}}\n\
             - {{path: link.db, replica: {{path: other}}}}\n"
        ),
    );
    let process = desk.start(&["replicate", "-config", "c.yml"]);
    wait_for_text(&process, "full copy complete");
    wait_for_text(&process, "link.db is the same file as");
    let failing = |name: &str, value: u8| {
        let path = desk.path(name);
        let path = path.parent().unwrap().canonicalize().unwrap().join(name);
        format!("litestream_replica_failing{{db=\"{}\"}} {value}", path.display())
    };
    let metrics = scrape(port).unwrap();
    assert!(metrics.contains(&failing("app.db", 0)) && metrics.contains(&failing("link.db", 1)), "{metrics}");
    // It is tried again every two seconds.
    std::thread::sleep(Duration::from_millis(4_500));
    assert_eq!(process.output().matches("is the same file as").count(), 1, "{}", process.output());
    assert_eq!(process.terminate(PATIENCE).unwrap().code(), Some(1));
    assert!(!desk.path("other").exists());
}

/// The directory's look took it for one of its own that is gone, and nobody replicated it ever again.
#[test]
fn a_database_with_an_entry_of_its_own_is_left_alone_by_the_directory_around_it() {
    let desk = Desk::new();
    let _tenant = desk.app("data/a.db");
    desk.write(
        "c.yml",
        "dbs:\n- dir: data\n  pattern: '*.db'\n  watch: true\n  replica: {path: backups}\n\
         - {path: data/late.sqlite, replica: {path: late}}\n- {path: data/own.db, replica: {path: own}}\n",
    );
    let process = desk.start(&["replicate", "-config", "c.yml"]);
    wait_for_text(&process, "full copy complete");
    std::thread::sleep(Duration::from_millis(5_000));
    let expected = [("data/late.sqlite", "late"), ("data/own.db", "own")];
    for (name, replica) in expected {
        insert(&desk.app(name), 3);
        let files = || Some(std::fs::read_dir(desk.path(replica).join("ltx/0")).ok()?.count());
        wait_for(name, PATIENCE, || files().filter(|&count| count > 0))
            .unwrap_or_else(|error| panic!("{error}\n{}", process.output()));
    }
    assert!(!desk.path("backups/own.db").exists(), "its entry says where it goes");
    let log = desk.path("log");
    let ended = process.terminate(PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", std::fs::read_to_string(log).unwrap());
    for (_, replica) in expected {
        assert_eq!(desk.rows_in_replica(replica), 3, "{replica}");
    }
}

/// The seventeenth used to wait, neither pinned nor copied, until the store had given an answer for the first.
#[test]
fn a_silent_store_keeps_no_database_from_being_copied() {
    const MANY: usize = 20;
    let (desk, site) = (Desk::new(), Site::embedded().unwrap());
    let names: Vec<String> = (0..MANY).map(|number| format!("tenants/{number}.db")).collect();
    let apps: Vec<Connection> = names.iter().map(|name| desk.app(name)).collect();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let replica = site.lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
    desk.write(
        "c.yml",
        &format!(
            "addr: 127.0.0.1:{port}\nshutdown-sync-timeout: 1s\ndbs:\n- dir: tenants\n  pattern: '*.db'\n  \
             replica:\n{replica}"
        ),
    );
    let command = |flags: &[&str]| {
        let mut command = desk.command(&["replicate", "-config", "c.yml"]);
        command.args(flags).envs(site.environment.iter().cloned());
        command
    };
    let once = command(&["-once"]).output().unwrap();
    assert!(once.status.success(), "{}", String::from_utf8_lossy(&once.stdout));
    site.server().unwrap().set_faults(Arc::new(|_: &RequestFacts| Outcome::Silence.into()));
    let process = Process::start(&mut command(&[]), &desk.path("log")).unwrap();
    for app in &apps {
        insert(app, 1);
    }
    let copied = || -> Option<usize> {
        let metrics = scrape(port)?;
        let txids = metrics.lines().filter(|line| line.starts_with("litestream_txid{"));
        Some(txids.filter(|line| line.rsplit(' ').next().is_some_and(|txid| txid != "1")).count())
    };
    // The store has not given up anybody by then.
    wait_for("a local copy of each", Duration::from_secs(20), || (copied()? == MANY).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", copied(), process.output()));
    assert_eq!(process.terminate(PATIENCE).unwrap().code(), Some(1), "nothing of it is in the store");
}

/// One prefix for files of two kinds; and, by mistake, one place for two databases of the same name.
#[test]
fn directories_with_one_replica_are_kept_apart_by_the_names_of_their_databases() {
    let desk = Desk::new();
    let apps = ["data/a.db", "data/b.sqlite", "other/a.db"].map(|name| desk.app(name));
    for (count, app) in (1..).zip(&apps) {
        insert(app, count);
    }
    let entry = |dir: &str, pattern: &str| {
        format!("- {{dir: {dir}, pattern: '{pattern}', replica: {{path: backups}}}}\n")
    };
    let config = [entry("data", "*.db"), entry("data", "*.sqlite"), entry("other", "*.db")].concat();
    desk.write("c.yml", &format!("dbs:\n{config}"));
    let process = desk.start(&["replicate", "-config", "c.yml"]);
    wait_for_text(&process, "cannot start replication");
    let log = process.output();
    assert_eq!(process.terminate(PATIENCE).unwrap().code(), Some(1), "one of them is not replicated");
    let refused = log.lines().find(|line| line.contains("cannot start replication")).unwrap();
    for part in ["other/a.db", "data/a.db", "backups/a.db"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!((desk.rows_in_replica("backups/a.db"), desk.rows_in_replica("backups/b.sqlite")), (1, 2));
}
