//! How many descriptors this process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits in force: (soft, hard). No limit is `u64::MAX`.
#[must_use]
pub fn fd_limit() -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX))
}

/// Raises the soft limit to the hard one and returns both as they are then.
///
/// The soft limit is 1,024 by tradition, for programs that use `select(2)`; a switch with hundreds
/// of ports needs more. Programs started for the user get the old one back ([`set_soft_fd_limit`]):
/// some of them still use `select(2)`, some close every possible descriptor one by one.
pub fn raise_fd_limit() -> io::Result<(u64, u64)> {
    let (_, hard) = fd_limit();
    set_soft_fd_limit(hard)?;
    Ok(fd_limit())
}

/// Sets the soft limit, at most to the hard one.
pub fn set_soft_fd_limit(soft: u64) -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = soft.min(maximum.unwrap_or(u64::MAX));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(current),
            maximum,
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_and_can_be_put_back() {
        let (before, hard) = fd_limit();
        set_soft_fd_limit(hard - 1).unwrap();
        assert_eq!(fd_limit(), (hard - 1, hard));
        assert_eq!(raise_fd_limit().unwrap(), (hard, hard));
        // Beyond the hard one there is nothing to be had.
        set_soft_fd_limit(u64::MAX).unwrap();
        assert_eq!(fd_limit(), (hard, hard));
        set_soft_fd_limit(before).unwrap();
        assert_eq!(fd_limit(), (before, hard));
    }
}
