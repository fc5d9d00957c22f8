//! How much memory a process holds.

use std::io;

/// Resident memory of process `pid` in bytes, as the kernel counts it for `ps` and for limits.
///
/// A packet ring counts in full from the moment it is mapped, whether or not a frame ever came.
pub fn resident(pid: u32) -> io::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = resident_pages(&statm).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages.saturating_mul(page_size()))
}

/// Size of a memory page in bytes: 4096 on x86-64, up to 65536 on arm64.
#[must_use]
pub fn page_size() -> u64 {
    rustix::param::page_size()
        .try_into()
        .expect("a page size fits 64 bits")
}

/// The second column of `/proc/PID/statm`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_memory_makes_the_process_larger() {
        const SIZE: usize = 32 << 20;
        let pid = std::process::id();
        let before = resident(pid).unwrap();
        let block = vec![1_u8; SIZE];
        let after = resident(pid).unwrap();
        assert!(
            after >= before + u64::try_from(SIZE / 2).unwrap(),
            "{before} -> {after}"
        );
        drop(block);
    }

    #[test]
    fn an_unknown_process_is_an_error() {
        assert_eq!(
            resident(u32::MAX).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_malformed_line_is_no_number() {
        assert_eq!(resident_pages("1 2 3"), Some(2));
        assert_eq!(resident_pages("1"), None);
        assert_eq!(resident_pages("1 x"), None);
    }
}
