//! Streams SQLite databases to object storage and restores them exactly.
//!
//! Read the modules from top to bottom and you have followed a transaction from commit to restored file:
//!
//! | step | module |
//! | --- | --- |
//! | outside world | [`host`]: clock, disk, entropy, blocking work, sockets; all nondeterminism enters here |
//! | the application writes | [`sqlite`]: live database → pinned WAL, safe moments to checkpoint |
//! | read the WAL | [`wal`] (pure): bytes + position → committed pages, and a verdict on continuity |
//! | encode | [`ltx`] (pure): pages ↔ LTX bytes, newest-wins merge |
//! | object storage | [`bucket`]: key, bytes, condition → durable object or a classified failure |
//! | names | [`replica`]: TXID range and level ↔ keys; listing → inventory; retention |
//! | replicate | [`sync`]: all of the above → the next TXID is durable |
//! | compact | [`compact`]: inventory → fewer, larger objects |
//! | restore | [`restore`]: inventory + target → plan → a verified file in place |
//! | check | [`verify`]: a database file at rest → SQLite's own verdict |
//! | ask the place | [`doctor`]: bucket → is it good enough, and with which settings |
//! | operate | [`observe`], [`config`], [`daemon`], [`cli`] |

#[macro_use]
pub mod planted;

pub mod error;

pub mod host;

pub mod sqlite;

pub mod wal;

pub mod ltx;

pub mod bucket;

pub mod replica;

pub mod sync;

pub mod compact;

pub mod restore;

pub mod verify;

pub mod doctor;

pub mod observe;

pub mod config;

pub mod daemon;

pub mod cli;

pub use error::{Error, ErrorKind, Result};
