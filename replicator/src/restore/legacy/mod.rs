//! Restoring replicas written by Litestream 0.3.x: generations, snapshots and WAL segments.
