//! The replicator itself at work on the target: its own binary, real databases, SIGKILL, the independent judge.
//!
//! Single requests say what an endpoint does; these say whether a replica on it can be trusted. The replicator's
//! own requests are not drawn from the suite's budget: they are bounded by what it is given to replicate, and the
//! figures declared here are measured ones with room.

mod history;
mod maintenance;
mod rig;
mod writers;

use super::Need::{Required, Setting};
use super::{Check, Complaint, Need, Probe, check};
use rig::Rig;

/// As for single conditions: the loser is found, but after the fact.
const NO_FENCE: Need =
    Setting("nothing: a second writer is found only afterwards; never let two run on one replica");

pub(super) const CHECKS: &[Check] = &[
    check!(
        "replica.absent",
        Required,
        40,
        64,
        "a restore of what was never written is an error, and with -if-replica-exists does nothing",
        "an application must be able to start for the first time, and never on an emptiness that is none",
        absent
    ),
    check!(
        "replica.refused",
        Required,
        60,
        64,
        "with a wrong secret key a restore with -if-replica-exists is an error",
        "a refusal taken for an empty replica starts the application on a new database",
        refused
    ),
    check!(
        "replica.doctor",
        Required,
        400,
        65536,
        "`replicator doctor` finds the place usable, and not usable with a wrong secret key",
        "the verdict that people see without this suite must not be another one",
        doctor
    ),
    check!(
        "replica.kill-and-restore",
        Required,
        900,
        8192,
        "replicated under load, killed, started again: what is restored is a committed state, at the end the last",
        "the whole point",
        kill_and_restore
    ),
    check!(
        "replica.endpoint-in-environment",
        Required,
        200,
        2048,
        "replicated and restored with the endpoint named by AWS_ENDPOINT_URL_S3 alone",
        "after a disaster there may be no configuration file; scheme or not, as in the file and the URL",
        endpoint_in_environment
    ),
    check!(
        "replica.every-state",
        Required,
        1200,
        8192,
        "restores by transaction and by time give what the independent decoders find there",
        "going back to the moment before the mistake",
        every_state
    ),
    check!(
        "replica.multipart",
        Required,
        200,
        64 << 10,
        "a database of several parts is replicated and restored",
        "snapshots; parts of R2 must have one size, B2 and Ceph refuse trailing checksums",
        multipart
    ),
    check!(
        "replica.compaction",
        Required,
        3000,
        16384,
        "levels 1 and 2 are filled while writing goes on, and every state in them agrees with the others",
        "merging reads and writes what the restore then depends on",
        compaction
    ),
    check!(
        "replica.retention",
        Required,
        4000,
        16384,
        "old snapshots and files are deleted, and what is left is whole",
        "deletions that do not happen cost money; too many cost the data",
        retention
    ),
    check!(
        "replica.two-writers",
        NO_FENCE,
        900,
        8192,
        "of two writers on one replica one stops with an error, and nothing is mixed",
        "a second instance started by mistake, or a deploy that overlaps",
        two_writers
    ),
];

/// Runs a check, which waits for real processes, on a thread where it may.
async fn on_rig(probe: &Probe, run: fn(&Rig) -> Result<(), Complaint>) -> Result<(), Complaint> {
    let binary = probe
        .replicator()
        .ok_or_else(|| Complaint::new("there is no replicator: the runner leaves this check out then"))?
        .to_owned();
    let (client, prefix) = (probe.client().clone(), probe.key(""));
    let work = move |stop| Rig::new(client, prefix, binary, stop).and_then(|rig| run(&rig));
    probe.work().run(work).await
}

async fn absent(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, history::absent).await
}

async fn refused(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, history::refused).await
}

async fn doctor(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, history::doctor).await
}

async fn kill_and_restore(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, history::kill_and_restore).await
}

async fn endpoint_in_environment(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, history::endpoint_in_environment).await
}

async fn every_state(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, history::every_state).await
}

async fn multipart(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, history::multipart).await
}

async fn compaction(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, maintenance::compaction).await
}

async fn retention(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, maintenance::retention).await
}

async fn two_writers(probe: &Probe) -> Result<(), Complaint> {
    on_rig(probe, writers::two_writers).await
}

#[cfg(test)]
mod tests;
