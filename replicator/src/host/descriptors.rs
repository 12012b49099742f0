//! How many files and connections this process may have open.
//!
//! The soft limit is small (1024 on most systems) for the sake of programs that use `select`; hundreds of databases need
//! more. Programs in Go raise it by themselves, so that nobody had to think of it with Litestream, and give their
//! children the old one, since those may be the ones that use `select`.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process was started with, once it was raised.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub fn raise_limit() {
    let given = getrlimit(Resource::Nofile);
    if given.current == given.maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: given.maximum, ..given }) {
        Ok(()) => {
            GIVEN.get_or_init(|| given);
            tracing::debug!(from = given.current, to = given.maximum, "raised the limit of open files");
        }
        Err(error) => {
            tracing::debug!(limit = given.current, %error, "the limit of open files stays as it is");
        }
    }
}

/// Has a child begin with the limit that this process was started with.
pub fn give_back_limit(command: &mut tokio::process::Command) {
    let Some(given) = GIVEN.get().copied() else { return };
    let give_back = move || {
        // A child with too high a limit is better than none.
        let _ = setrlimit(Resource::Nofile, given);
        Ok(())
    };
    // SAFETY: between fork and exec this makes one system call; it takes no lock and allocates nothing.
    unsafe {
        command.pre_exec(give_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_raised_to_the_hard_one_and_a_child_has_the_old_one() {
        let given = getrlimit(Resource::Nofile);
        // One less than the most is enough for the tests beside this one.
        let lowered = Rlimit { current: Some(given.maximum.unwrap_or(1 << 20) - 1), ..given };
        setrlimit(Resource::Nofile, lowered).unwrap();
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, given.maximum);

        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", "ulimit -n"]);
        give_back_limit(&mut shell);
        let output = shell.output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), lowered.current.unwrap().to_string());
    }
}
