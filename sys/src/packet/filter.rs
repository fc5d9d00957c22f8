//! A socket filter that keeps other stations' frames out of the ring.
//!
//! On an interface in promiscuous mode the kernel hands over everything it hears. The filter, a
//! classic BPF program run before a slot is taken, accepts frames to the given addresses and every
//! group address (multicast and broadcast), and nothing else.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::sock_filter;

use crate::sockopt;

/// The most addresses one filter holds: the kernel takes 4,096 instructions (`BPF_MAXINSNS`).
pub const MAX_FILTER_ADDRESSES: usize = (4096 - FRAME_INSTRUCTIONS) / INSTRUCTIONS_PER_ADDRESS;

/// `SO_DETACH_FILTER` of `asm-generic/socket.h`, the same on x86-64 and arm64.
const SO_DETACH_FILTER: libc::c_int = 27;

/// Instructions besides those for addresses.
const FRAME_INSTRUCTIONS: usize = 4;
const INSTRUCTIONS_PER_ADDRESS: usize = 5;

// Instruction codes of `linux/bpf_common.h`, put together.
/// Load one byte at a fixed place of the frame.
const LOAD_BYTE: u16 = 0x30;
/// Load two bytes, big-endian.
const LOAD_HALF: u16 = 0x28;
/// Load four bytes, big-endian.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_BITS: u16 = 0x45;
/// End; the operand is how many bytes of the frame to keep.
const RETURN: u16 = 0x06;

const ACCEPT: sock_filter = instruction(RETURN, 0, 0, u32::MAX);
const REFUSE: sock_filter = instruction(RETURN, 0, 0, 0);

/// Makes `socket` accept only frames to one of `addresses` or to a group. Replaces an earlier
/// filter in one step; frames that are in the ring already stay there.
pub(super) fn attach(socket: BorrowedFd<'_>, addresses: &[[u8; 6]]) -> io::Result<()> {
    let mut program = program(addresses);
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let description = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the option's value is a pointer to the instructions and their number; both it and
    // `program`, to which it points, live until the call returns, and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const description).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>())
                .expect("the description is 16 bytes"),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes an earlier filter away, if there is one.
pub(super) fn detach(socket: BorrowedFd<'_>) -> io::Result<()> {
    // The value means nothing, but the kernel wants one.
    match sockopt::set(socket, libc::SOL_SOCKET, SO_DETACH_FILTER, &0) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The group bit first, since it ends broadcasts at once, then one comparison an address. Every
/// address has its own end: a jump reaches no further than 255 instructions.
fn program(addresses: &[[u8; 6]]) -> Vec<sock_filter> {
    let mut program =
        Vec::with_capacity(FRAME_INSTRUCTIONS + addresses.len() * INSTRUCTIONS_PER_ADDRESS);
    program.extend([
        instruction(LOAD_BYTE, 0, 0, 0),
        instruction(JUMP_IF_BITS, 0, 1, 1),
        ACCEPT,
    ]);
    for &[a, b, c, d, e, f] in addresses {
        let last_four = u32::from_be_bytes([c, d, e, f]);
        let first_two = u32::from(u16::from_be_bytes([a, b]));
        program.extend([
            instruction(LOAD_WORD, 0, 0, 2),
            instruction(JUMP_IF_EQUAL, 0, 3, last_four),
            instruction(LOAD_HALF, 0, 0, 0),
            instruction(JUMP_IF_EQUAL, 0, 1, first_two),
            ACCEPT,
        ]);
    }
    program.push(REFUSE);
    program
}

const fn instruction(code: u16, jump_if_true: u8, jump_if_false: u8, operand: u32) -> sock_filter {
    sock_filter {
        code,
        jt: jump_if_true,
        jf: jump_if_false,
        k: operand,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's interpreter does with these few instructions.
    fn run(program: &[sock_filter], frame: &[u8]) -> u32 {
        let mut accumulator = 0;
        let mut counter = 0;
        loop {
            let step = &program[counter];
            let place = usize::try_from(step.k).unwrap_or(usize::MAX);
            let holds = match step.code {
                LOAD_BYTE => {
                    accumulator = u32::from(frame[place]);
                    false
                }
                LOAD_HALF => {
                    accumulator = u32::from(u16::from_be_bytes(
                        frame[place..place + 2].try_into().unwrap(),
                    ));
                    false
                }
                LOAD_WORD => {
                    accumulator = u32::from_be_bytes(frame[place..place + 4].try_into().unwrap());
                    false
                }
                JUMP_IF_EQUAL => accumulator == step.k,
                JUMP_IF_BITS => accumulator & step.k != 0,
                RETURN => return step.k,
                other => panic!("unknown instruction {other:#x}"),
            };
            counter += 1 + usize::from(if holds { step.jt } else { step.jf });
        }
    }

    const OURS: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
    const ALSO_OURS: [u8; 6] = [0x02, 0, 0, 0, 0, 2];

    #[test]
    fn frames_to_our_addresses_and_to_groups_pass_and_others_do_not() {
        let program = program(&[OURS, ALSO_OURS]);
        for accepted in [
            OURS,
            ALSO_OURS,
            [0xff; 6],
            [0x33, 0x33, 0, 0, 0, 1],
            [1, 0, 0x5e, 0, 0, 1],
        ] {
            assert_eq!(run(&program, &accepted), u32::MAX, "{accepted:x?}");
        }
        // One byte different, at every place; none of these has the group bit.
        for place in 0..6 {
            let mut other = OURS;
            other[place] ^= 0x80;
            assert_eq!(run(&program, &other), 0, "{other:x?}");
        }
    }

    #[test]
    fn without_addresses_only_groups_pass() {
        let program = program(&[]);
        assert_eq!(run(&program, &[0xff; 6]), u32::MAX);
        assert_eq!(run(&program, &OURS), 0);
    }

    #[test]
    fn the_last_of_many_addresses_is_reached_and_the_program_fits_the_kernel() {
        let addresses: Vec<[u8; 6]> = (0..MAX_FILTER_ADDRESSES)
            .map(|number| {
                let [a, b] = u16::try_from(number).unwrap().to_be_bytes();
                [0x02, 0, 0, 0, a, b]
            })
            .collect();
        let program = program(&addresses);
        assert!(program.len() <= 4096);
        assert_eq!(run(&program, addresses.last().unwrap()), u32::MAX);
        assert_eq!(run(&program, &[0x02, 1, 0, 0, 0, 0]), 0);
    }
}
