//! Socket options that no wrapper crate offers: `SOL_PACKET`, `SOL_NETLINK`, credentials.
//!
//! `unsafe` is needed because `getsockopt(2)` and `setsockopt(2)` take a pointer and a length; this
//! file is the one place where a Rust value becomes such a pair.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, socklen_t};

/// A C structure or integer that the kernel reads or writes as a socket option.
///
/// # Safety
///
/// Every bit pattern must be a valid value, because the kernel chooses it: no references, no enums,
/// no `NonZero`.
pub(crate) unsafe trait OptionValue: Copy {}

// SAFETY: integers have no invalid bit pattern.
unsafe impl OptionValue for c_int {}
// SAFETY: three integers.
unsafe impl OptionValue for libc::ucred {}

/// Sets option `name` of `level`.
pub(crate) fn set<T: OptionValue>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which outlives the call; the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads option `name` of `level`. An answer of another size than `T` is an error, so that no part
/// of the value is left unwritten.
pub(crate) fn get<T: OptionValue>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let mut length = length_of::<T>();
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, and reports how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if length != length_of::<T>() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all bytes were written (length checked above), and any bytes are a valid `T`.
    Ok(unsafe { value.assume_init() })
}

/// Reads option `name` of `level`, whose value is a list of numbers of any length.
pub(crate) fn get_list(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<Vec<u32>> {
    let mut values = vec![0_u32; 64];
    loop {
        let space = values.len() * size_of::<u32>();
        let mut length = socklen_t::try_from(space).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the kernel writes at most `length` bytes, the size of the vector's elements, and
        // reports how many; integers have no invalid bit pattern.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                level,
                name,
                values.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count =
            usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)? / size_of::<u32>();
        if result == 0 {
            values.truncate(count);
            return Ok(values);
        }
        let error = io::Error::last_os_error();
        // What would have been enough is in the length then.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= values.len() {
            return Err(error);
        }
        values.resize(count, 0);
    }
}

const fn length_of<T>() -> socklen_t {
    let size = size_of::<T>();
    assert!(size <= 4096, "a socket option is small");
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 4096, asserted above"
    )]
    let length = size as socklen_t;
    length
}
