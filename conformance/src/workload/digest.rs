//! What a database means, as one number: the same rows and schema give the same digest, whatever the pages are.
//!
//! Tables of SQLite and of Litestream (`sqlite_…`, `_litestream_…`) are no part of the application's content.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::ops::RangeInclusive;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

/// The sum of the hashes of all rows and schema entries. A sum, so that it can be kept up to date row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Digest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// Names of the application's tables.
pub(crate) const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table'
    AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' ORDER BY name";

const SCHEMA: &str =
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    AND tbl_name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' AND sql IS NOT NULL";

impl Digest {
    /// Reads the whole database.
    ///
    /// # Errors
    /// If SQLite cannot read it.
    pub fn of(db: &Connection) -> rusqlite::Result<Self> {
        let mut digest = schema(db)?;
        let names: Vec<String> =
            db.prepare(TABLES)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for table in names {
            // A scan of the table itself: an index alone could hide that the table lacks a row.
            let mut statement = db.prepare(&format!("SELECT * FROM \"{table}\" NOT INDEXED"))?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                digest.0 = digest.0.wrapping_add(row_hash(&table, row, columns)?);
            }
        }
        Ok(digest)
    }
}

fn schema(db: &Connection) -> rusqlite::Result<Digest> {
    let mut statement = db.prepare(SCHEMA)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut digest = Digest::default();
    while let Some(row) = rows.next()? {
        digest.0 = digest.0.wrapping_add(row_hash("sqlite_schema", row, columns)?);
    }
    Ok(digest)
}

/// Hash of one row under its table's name.
fn row_hash(table: &str, row: &Row<'_>, columns: usize) -> rusqlite::Result<u128> {
    // Keys are fixed, so the same content gives the same number in every process.
    let mut halves = [std::hash::DefaultHasher::new(), std::hash::DefaultHasher::new()];
    for (half, salt) in halves.iter_mut().zip([1, 2]) {
        half.write_u8(salt);
        half.write(table.as_bytes());
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => half.write_u8(0),
                ValueRef::Integer(number) => {
                    half.write_u8(1);
                    half.write_i64(number);
                }
                ValueRef::Real(number) => {
                    half.write_u8(2);
                    half.write_u64(number.to_bits());
                }
                ValueRef::Text(bytes) => write_bytes(half, 3, bytes),
                ValueRef::Blob(bytes) => write_bytes(half, 4, bytes),
            }
        }
    }
    Ok(u128::from(halves[0].finish()) << 64 | u128::from(halves[1].finish()))
}

fn write_bytes(hasher: &mut impl Hasher, kind: u8, bytes: &[u8]) {
    hasher.write_u8(kind);
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}

/// The digest of a live database, kept up to date by looking only at rows that may have changed.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    rows: BTreeMap<String, BTreeMap<i64, u128>>,
    sum: u128,
}

impl Tracker {
    /// Reads the whole database once.
    ///
    /// # Errors
    /// If SQLite cannot read it.
    pub fn of(db: &Connection) -> rusqlite::Result<Self> {
        let mut tracker = Self::default();
        let names: Vec<String> =
            db.prepare(TABLES)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for table in names {
            tracker.look_again(db, &table, i64::MIN..=i64::MAX)?;
        }
        Ok(tracker)
    }

    /// Reads the rows of a table again whose `id` lies in a range; a table that is gone has none.
    ///
    /// # Errors
    /// If SQLite cannot read them.
    pub fn look_again(
        &mut self,
        db: &Connection,
        table: &str,
        ids: RangeInclusive<i64>,
    ) -> rusqlite::Result<()> {
        let known = self.rows.entry(table.to_owned()).or_default();
        let old: Vec<i64> = known.range(ids.clone()).map(|(id, _)| *id).collect();
        for id in old {
            self.sum = self.sum.wrapping_sub(known.remove(&id).unwrap_or_default());
        }
        if !db.table_exists(None, table)? {
            return Ok(());
        }
        let mut statement = db.prepare(&format!("SELECT * FROM \"{table}\" WHERE id BETWEEN ?1 AND ?2"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([ids.start(), ids.end()])?;
        while let Some(row) = rows.next()? {
            let hash = row_hash(table, row, columns)?;
            known.insert(row.get("id")?, hash);
            self.sum = self.sum.wrapping_add(hash);
        }
        Ok(())
    }

    /// The ids of a table, in order.
    pub fn ids(&self, table: &str) -> impl DoubleEndedIterator<Item = i64> + '_ {
        self.rows.get(table).into_iter().flat_map(|rows| rows.keys().copied())
    }

    /// Number of rows of a table.
    #[must_use]
    pub fn count(&self, table: &str) -> usize {
        self.rows.get(table).map_or(0, BTreeMap::len)
    }

    /// The digest of the database as it stands in this connection, an open transaction included.
    ///
    /// # Errors
    /// If SQLite cannot read the schema.
    pub fn digest(&self, db: &Connection) -> rusqlite::Result<Digest> {
        Ok(Digest(self.sum.wrapping_add(schema(db)?.0)))
    }
}
