//! `replicate`: the service.

use super::super::Outcome;
use super::super::args::Replicate;
use super::Context;
use crate::error::{Error, ErrorKind, Result};

pub(super) fn run(context: &Context<'_>, args: &Replicate) -> Result<Outcome> {
    let _ = context;
    let _ = args;
    Err(Error::new(ErrorKind::Internal, "being built"))
}
