//! The things an application does.

use rusqlite::params;

use super::{Failure, History, Workload};

/// One thing an application can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Adds a few rows.
    Insert,
    /// Changes neighbouring rows.
    Update,
    /// Changes one row.
    UpdateOne,
    /// Removes neighbouring rows.
    Delete,
    /// Adds a row with a blob of many pages.
    InsertBlob,
    /// Adds rows, then undoes part of the transaction.
    Savepoint,
    /// Changes a lot, then undoes all of it.
    RollBack,
    /// Creates or drops an index.
    Index,
    /// Creates, fills, extends or drops a table.
    Table,
    /// Adds many rows.
    Grow,
    /// Removes most rows.
    Shrink,
    /// Rewrites the file.
    Vacuum,
    /// `wal_checkpoint(PASSIVE)`.
    CheckpointPassive,
    /// `wal_checkpoint(FULL)`.
    CheckpointFull,
    /// `wal_checkpoint(RESTART)`.
    CheckpointRestart,
    /// `wal_checkpoint(TRUNCATE)`.
    CheckpointTruncate,
}

impl Action {
    /// All of them, with their usual weights.
    pub const ALL: [(Self, u64); 16] = [
        (Self::Insert, 30),
        (Self::Update, 20),
        (Self::UpdateOne, 30),
        (Self::Delete, 12),
        (Self::InsertBlob, 6),
        (Self::Savepoint, 6),
        (Self::RollBack, 4),
        (Self::Index, 3),
        (Self::Table, 4),
        (Self::Grow, 2),
        (Self::Shrink, 2),
        (Self::Vacuum, 1),
        (Self::CheckpointPassive, 3),
        (Self::CheckpointFull, 2),
        (Self::CheckpointRestart, 2),
        (Self::CheckpointTruncate, 2),
    ];
}

pub(super) fn perform(app: &mut Workload, action: Action, history: &mut History) -> Result<(), Failure> {
    let table = app.random.pick(&["t0", "t0", "t1"]);
    match action {
        Action::Insert => {
            // A table that is full enough makes room instead.
            if app.tracker.count(table) > app.settings.many_rows {
                return app.transaction(history, |app| delete(app, table, 60));
            }
            let rows = 1 + app.random.below(20);
            app.transaction(history, |app| insert(app, table, rows, 300))
        }
        Action::Update => app.transaction(history, |app| update(app, table, 30)),
        Action::UpdateOne => app.transaction(history, |app| update(app, table, 1)),
        Action::Delete => app.transaction(history, |app| delete(app, table, 20)),
        Action::InsertBlob => {
            let longest = app.settings.blob_bytes;
            app.transaction(history, |app| insert(app, table, 1, longest))
        }
        Action::Savepoint => app.transaction(history, |app| savepoint(app, table)),
        Action::RollBack => {
            app.db.execute_batch("BEGIN IMMEDIATE")?;
            insert(app, table, 60, 2000)?;
            delete(app, table, 100)?;
            app.roll_back()
        }
        Action::Index => app.transaction(history, index),
        Action::Table => app.transaction(history, extra_table),
        Action::Grow => {
            let rows = app.settings.many_rows as u64 / 2;
            app.transaction(history, |app| insert(app, table, rows, 500))
        }
        Action::Shrink => app.transaction(history, |app| {
            let most = app.tracker.count(table) * 4 / 5;
            delete(app, table, most as u64)
        }),
        Action::Vacuum => {
            let command = if app.settings.auto_vacuum == 2 { "PRAGMA incremental_vacuum" } else { "VACUUM" };
            Ok(app.db.execute_batch(command)?)
        }
        Action::CheckpointPassive => checkpoint(app, "PASSIVE"),
        Action::CheckpointFull => checkpoint(app, "FULL"),
        Action::CheckpointRestart => checkpoint(app, "RESTART"),
        Action::CheckpointTruncate => checkpoint(app, "TRUNCATE"),
    }
}

fn insert(app: &mut Workload, table: &str, rows: u64, longest: u64) -> Result<(), Failure> {
    let first = app.tracker.ids(table).next_back().unwrap_or(0) + 1;
    let mut id = first;
    let sql = format!("INSERT INTO {table}(id, name, number, body) VALUES (?1, ?2, ?3, ?4)");
    let mut statement = app.db.prepare(&sql)?;
    for _ in 0..rows {
        let random = &mut app.random;
        let (name, number) = (random.text(40), random.below(1000));
        let body = if random.one_in(2) { random.bytes(longest) } else { random.text(longest).into_bytes() };
        statement.execute(params![id, name, number, body])?;
        // Gaps, so that ids are not simply counted.
        id += 1 + i64::try_from(random.below(3)).expect("small");
    }
    drop(statement);
    Ok(app.tracker.look_again(&app.db, table, first..=id)?)
}

/// Some neighbouring ids, at most `most`; `None` in an empty table.
fn neighbours(app: &mut Workload, table: &str, most: u64) -> Option<(i64, i64)> {
    let ids: Vec<i64> = app.tracker.ids(table).collect();
    let start = usize::try_from(app.random.below(ids.len() as u64)).expect("an index");
    let length = usize::try_from(app.random.below(most)).expect("a length");
    Some((*ids.get(start)?, *ids.get((start + length).min(ids.len() - 1))?))
}

fn update(app: &mut Workload, table: &str, most: u64) -> Result<(), Failure> {
    let Some((low, high)) = neighbours(app, table, most) else { return Ok(()) };
    let name = app.random.text(40);
    let sql = format!("UPDATE {table} SET name = name || ?3, number = number + 1 WHERE id BETWEEN ?1 AND ?2");
    app.db.prepare(&sql)?.execute(params![low, high, name])?;
    // Names must not grow for ever.
    let trim = format!(
        "UPDATE {table} SET name = substr(name, -60) WHERE id BETWEEN ?1 AND ?2 AND length(name) > 200"
    );
    app.db.prepare(&trim)?.execute(params![low, high])?;
    Ok(app.tracker.look_again(&app.db, table, low..=high)?)
}

fn delete(app: &mut Workload, table: &str, most: u64) -> Result<(), Failure> {
    let Some((low, high)) = neighbours(app, table, most) else { return Ok(()) };
    let sql = format!("DELETE FROM {table} WHERE id BETWEEN ?1 AND ?2");
    app.db.prepare(&sql)?.execute(params![low, high])?;
    Ok(app.tracker.look_again(&app.db, table, low..=high)?)
}

fn savepoint(app: &mut Workload, table: &str) -> Result<(), Failure> {
    insert(app, table, 3, 100)?;
    let before = app.tracker.clone();
    app.db.execute_batch("SAVEPOINT part")?;
    insert(app, table, 20, 1000)?;
    delete(app, table, 50)?;
    if app.random.one_in(2) {
        app.db.execute_batch("ROLLBACK TO part")?;
        app.tracker = before;
    }
    app.db.execute_batch("RELEASE part")?;
    Ok(())
}

fn index(app: &mut Workload) -> Result<(), Failure> {
    let sql = if app.db.table_exists(None, "t0")? && index_exists(app)? {
        "DROP INDEX t0_by_number"
    } else {
        "CREATE INDEX t0_by_number ON t0(number, name)"
    };
    Ok(app.db.execute_batch(sql)?)
}

fn index_exists(app: &Workload) -> Result<bool, Failure> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 't0_by_number'";
    Ok(app.db.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

fn extra_table(app: &mut Workload) -> Result<(), Failure> {
    if !app.db.table_exists(None, "extra")? {
        let sql = "CREATE TABLE extra(id INTEGER PRIMARY KEY, name TEXT, number INTEGER, body BLOB)";
        app.db.execute_batch(sql)?;
        return insert(app, "extra", 30, 200);
    }
    if app.random.one_in(3) {
        app.db.execute_batch("DROP TABLE extra")?;
    } else {
        let column = app.random.below(1_000_000_000);
        app.db.execute_batch(&format!("ALTER TABLE extra ADD COLUMN c{column} DEFAULT 'added'"))?;
    }
    Ok(app.tracker.look_again(&app.db, "extra", i64::MIN..=i64::MAX)?)
}

fn checkpoint(app: &Workload, mode: &str) -> Result<(), Failure> {
    // The answer says how far it got; being hindered by a reader is no error.
    app.db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?;
    Ok(())
}
