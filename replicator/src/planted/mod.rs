//! Bugs planted on purpose, so that the simulator can show that it finds them.
//!
//! Each is a change of about one line at its place in the product, written `planted!("name")`. Without the feature
//! `planted`, which only the simulator's scoreboard and whoever wants to see a unit test fail turn on, that is `false` and
//! the optimiser removes it. With it, all bugs are in one build and at most one is awake, chosen by name for the whole
//! process. Owns the list and the choice; must not act.

/// Whether the named bug is awake; with two more expressions, the wrong one if it is and the right one if not.
#[cfg(not(feature = "planted"))]
macro_rules! planted {
    ($name:literal) => {
        false
    };
    ($name:literal, $wrong:expr, $right:expr) => {
        $right
    };
}

/// Whether the named bug is awake; with two more expressions, the wrong one if it is and the right one if not.
#[cfg(feature = "planted")]
macro_rules! planted {
    ($name:literal) => {{
        const INDEX: usize = $crate::planted::index_of($name);
        $crate::planted::is_awake(INDEX)
    }};
    ($name:literal, $wrong:expr, $right:expr) => {
        if planted!($name) { $wrong } else { $right }
    };
}

#[cfg(feature = "planted")]
mod awake;
#[cfg(feature = "planted")]
mod list;

#[cfg(feature = "planted")]
pub use self::awake::{index_of, is_awake, wake};
#[cfg(feature = "planted")]
pub use self::list::{BUGS, Bug, Lane, Part};
