//! What became of Litestream's commands and flags that this program has not. Pure data.

/// Advice for a command that is not there.
#[must_use]
pub fn command(name: &str) -> Option<&'static str> {
    Some(match name {
        "generations" => {
            "replicas have no generations since Litestream 0.5: see replicator ltx -level all DB"
        }
        "snapshots" => "list snapshots with: replicator ltx -level 9 DB",
        "info" | "list" => {
            "there is no control socket; see replicator status, or the metrics (addr: in the configuration)"
        }
        "register" | "unregister" | "start" | "stop" => {
            "there is no control socket; use a dir: entry with watch: true, or change the configuration and restart"
        }
        "sync" => "there is no control socket; replicate what there is with: replicator replicate -once",
        "mcp" => "there is no MCP server in this program",
        _ => return None,
    })
}

/// Advice for a flag that a command does not have.
#[must_use]
pub fn flag(command: &str, name: &str) -> Option<&'static str> {
    Some(match (command, name) {
        ("restore", "f" | "follow-interval") => {
            "follow mode is not supported; restore again, or restore to a new path and swap"
        }
        ("ltx" | "wal", "replica") => "a database has one replica: leave the flag out",
        ("ltx" | "wal", "generation") => {
            "LTX files have no generations; to restore an old backup: replicator restore -generation ID"
        }
        ("replicate", "trace") => "use -log-level trace",
        _ => return None,
    })
}
