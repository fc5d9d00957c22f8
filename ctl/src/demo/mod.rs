//! `heddle demo`

use clap::Args;

use crate::api::ApiError;

/// A tour.
#[derive(Debug, Args)]
pub struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<u8, ApiError> {
    Ok(0)
}
