//! How errors look on a terminal.

use crate::api::ApiError;

/// Prints an error and its hint; returns the exit status for it.
pub(super) fn print(error: &ApiError) -> u8 {
    eprintln!("heddle: {}", error.error.message);
    if let Some(hint) = &error.error.hint {
        eprintln!("hint: {hint}");
    }
    1
}
