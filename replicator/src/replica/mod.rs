//! Names: transaction range and level ↔ keys, listing → inventory, and what retention may delete.
//!
//! The only module that builds or parses keys of LTX files. Everything but listing a bucket is pure. Must not know what is
//! inside a file.

mod inventory;
mod name;
mod retention;

pub use inventory::{Entry, Gap, Inventory};
pub(crate) use inventory::{common_prefix, list_either_layout, other_layout};
pub use name::{Level, LtxName};
pub use retention::{Level0Files, Retention};
