//! Processes: forked, watched, waited for; and what a process inherits, put in order.
//!
//! A process is named by its number only where a user typed one. Everything that lasts holds a
//! pidfd, which cannot come to mean another process; where a number must be written down,
//! [`start_time`] goes with it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, WaitStatus,
};

pub use rustix::process::Signal;

use crate::watch;

/// Which side of a [`fork`] this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fork {
    /// The calling process.
    Parent {
        /// The new process, to be waited for.
        child: u32,
    },
    /// The new process.
    Child,
}

/// Duplicates the calling process.
///
/// Refused (`ResourceBusy`) while the process has a second thread: the child would have this thread
/// only, and every lock that another one held, the allocator's among them, would stay locked for
/// ever. The check costs one system call and cannot become wrong in between, since only this thread
/// could start another; that is why this function is not `unsafe`.
///
/// The child has a copy of every descriptor and value. It ends by [`exit`] or by executing a program,
/// never by returning into what its parent was doing.
pub fn fork() -> io::Result<Fork> {
    if !is_single_threaded()? {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "a process with several threads cannot be forked",
        ));
    }
    // SAFETY: the process has this thread only (checked), so that the child is a complete copy and
    // may do whatever the parent may. `libc::fork` and not the bare system call, for the C library's
    // own preparations.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        child => u32::try_from(child)
            .map(|child| Fork::Parent { child })
            .map_err(|_| io::Error::last_os_error()),
    }
}

/// Ends this process at once: no destructors, no `atexit` functions, which belong to the parent of a
/// forked child.
pub fn exit(status: u8) -> ! {
    // SAFETY: `_exit` runs nothing of this process any more. `std` has no such function.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Whether the process has no thread but the calling one.
pub fn is_single_threaded() -> io::Result<bool> {
    // A directory has two links and one for each directory in it: one a thread.
    Ok(rustix::fs::stat("/proc/self/task")?.st_nlink == 3)
}

/// A descriptor for process `pid`: readable once the process has ended.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(
        to_pid(pid)?,
        PidfdFlags::empty(),
    )?)
}

/// Sends a signal to the process behind `pidfd`, and to no other.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

/// Whether the process behind `pidfd` has ended, waited for or not.
pub fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    watch::wait_readable(pidfd, Some(Duration::ZERO))
}

/// Whether a descriptor is a pidfd at all: of any process, a child or not, there or gone.
pub fn is_pidfd(descriptor: BorrowedFd<'_>) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let looked = retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(descriptor), look));
    // Of a process that is nobody's child here it says so; of anything else, that it is no pidfd.
    matches!(looked, Ok(_) | Err(Errno::CHILD))
}

/// Waits until child `pid` has ended and takes its exit status.
pub fn wait(pid: u32) -> io::Result<ExitStatus> {
    let pid = to_pid(pid)?;
    let status = retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
    let (_, status) = status.expect("without NOHANG there is a status");
    Ok(exit_status(status))
}

/// Takes the exit status of child `pid` if it has ended. Does not wait.
pub fn try_wait(pid: u32) -> io::Result<Option<ExitStatus>> {
    let pid = to_pid(pid)?;
    let ended = retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::NOHANG))?;
    Ok(ended.map(|(_, status)| exit_status(status)))
}

/// Kills child `pid`. Only for one that has not been waited for: until then its number is its own,
/// and naming it by the number costs no descriptor, of which there may be none left.
pub fn kill_child(pid: u32) -> io::Result<()> {
    Ok(rustix::process::kill_process(to_pid(pid)?, Signal::KILL)?)
}

/// Waits until the child behind `pidfd` has ended and takes its exit status.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    let status =
        retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))?
            .expect("without NOHANG there is a status");
    Ok(exit_id_status(&status))
}

/// Takes the exit status of any child that has ended, also of one inherited as subreaper. Does not
/// wait. `None` when no child has ended or there is none.
pub fn reap() -> io::Result<Option<(u32, ExitStatus)>> {
    match retry_on_intr(|| rustix::process::wait(WaitOptions::NOHANG)) {
        Ok(None) | Err(Errno::CHILD) => Ok(None),
        Ok(Some((pid, status))) => Ok(Some((
            pid.as_raw_nonzero().get().unsigned_abs(),
            exit_status(status),
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Makes this process get `signal` when `parent`, which started it, ends. Fails (`NotFound`) if that
/// has happened already.
///
/// "Parent" is the *thread* that forked. Changing the user namespace or executing a set-uid program
/// takes the signal away again. A parent in another process namespace is not visible, so that it
/// cannot be told whether it has ended.
pub fn set_parent_death_signal(signal: Signal, parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    // In this order, so that the parent cannot end unnoticed in between.
    match rustix::process::getppid() {
        Some(pid) if pid != to_pid(parent)? => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the parent process has ended",
        )),
        _ => Ok(()),
    }
}

/// Makes this process inherit its grandchildren when their parents end, so that none escapes.
pub fn set_child_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

/// Makes it impossible for this process and its descendants to gain privileges by executing a
/// program.
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Names the calling thread in `ps` and in core files; the kernel keeps 15 bytes.
pub fn set_name(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    Ok(rustix::thread::set_name(&name)?)
}

/// Closes every descriptor from `first` on that this process *inherited*, except `keep`. For the
/// start of `main`: what a careless parent left open would otherwise keep its pipes, sockets and
/// namespaces alive as long as a daemon lives.
///
/// Inherited is what lacks the close-on-exec flag: it was executed through, and whatever this
/// program opens has the flag. So no descriptor that some value here owns is closed, which a plain
/// `close_range(2)` would do, and which is why this function need not be `unsafe`. A descriptor
/// passed on purpose belongs into `keep`.
pub fn close_from(first: RawFd, keep: &[RawFd]) -> io::Result<()> {
    for fd in inherited_from(first)? {
        if !keep.contains(&fd) {
            // SAFETY: `fd` was inherited (see above): nothing in this program owns it.
            unsafe { rustix::io::close(fd) };
        }
    }
    Ok(())
}

/// Takes from this process, a forked child about to enter somebody else's namespaces, whatever could
/// be taken from it there: every descriptor beyond standard error, except `keep`, and its dumpable
/// flag.
///
/// A process with capabilities in a user namespace may trace everybody in it, and so copy the
/// descriptors and the memory of whoever enters, unless that one is not dumpable: this then takes
/// capabilities where the program was *executed* (ptrace(2); CVE-2016-9962).
///
/// A descriptor is not closed but becomes the end of an empty pipe. So no value here that owns one
/// comes to name something else, which is why this function need not be `unsafe`.
pub fn seclude(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let (nothing, _) = pipe_with(PipeFlags::CLOEXEC)?;
    let kept = |fd: RawFd| keep.iter().any(|kept| kept.as_raw_fd() == fd);
    for (fd, _) in descriptors_from(3)? {
        if fd == nothing.as_raw_fd() || kept(fd) {
            continue;
        }
        // SAFETY: the number stays open and with its owner; what it leads to is the end of a pipe.
        if unsafe { libc::dup3(nothing.as_raw_fd(), fd, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The open descriptors from `first` on without close-on-exec flag.
fn inherited_from(first: RawFd) -> io::Result<Vec<RawFd>> {
    let open = descriptors_from(first)?;
    let inherited = open.into_iter().filter_map(|(fd, flags)| {
        let inherited = !flags.contains(FdFlags::CLOEXEC);
        inherited.then_some(fd)
    });
    Ok(inherited.collect())
}

/// The open descriptors from `first` on, and their flags.
fn descriptors_from(first: RawFd) -> io::Result<Vec<(RawFd, FdFlags)>> {
    let directory = rustix::fs::open(
        "/proc/self/fd",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut listed: Vec<RawFd> = Vec::new();
    for entry in rustix::fs::Dir::new(directory)? {
        let entry = entry?;
        let number = entry.file_name().to_str().ok();
        listed.extend(number.and_then(|number| number.parse::<RawFd>().ok()));
    }
    let open = listed.into_iter().filter(|&fd| fd >= first);
    Ok(open
        .filter_map(|fd| {
            // SAFETY: only asked for its flags; if it is not open any more, as that of the list
            // itself, the answer is EBADF.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
            Some((fd, rustix::io::fcntl_getfd(borrowed).ok()?))
        })
        .collect())
}

/// Gives a signal its default action back, which a forked child has not if its parent handles it.
pub fn restore_default_action(signal: Signal) -> io::Result<()> {
    // SAFETY: the default action involves no code of ours.
    if unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) } == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Undoes what a parent may have left: SIGPIPE and SIGCHLD ignored, signals blocked.
///
/// An ignored SIGCHLD makes children vanish unreaped, so that [`wait`] fails. Rust's own start-up
/// ignores SIGPIPE; the daemon wants that and calls [`ignore_broken_pipes`] afterwards, a command
/// whose output goes into a pipe does not.
pub fn restore_signal_defaults() -> io::Result<()> {
    for signal in [libc::SIGPIPE, libc::SIGCHLD] {
        // SAFETY: the default action involves no code of ours.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set, which `sigprocmask` then reads.
    let result = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes writing to a closed pipe or connection an error instead of this process's end.
pub fn ignore_broken_pipes() -> io::Result<()> {
    // SAFETY: ignoring involves no code of ours.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// When process `pid` was started, in clock ticks since the machine was. Together with the number it
/// names one process for as long as the machine runs.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    start_time_in(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Field 22 of `/proc/PID/stat` (proc(5)). The second field is the program's name in parentheses and
/// may contain anything, also parentheses and spaces; nothing after it does.
fn start_time_in(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name
        .split_ascii_whitespace()
        .nth(22 - 3)?
        .parse()
        .ok()
}

fn to_pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    ExitStatus::from_raw(status.as_raw())
}

fn exit_id_status(status: &WaitIdStatus) -> ExitStatus {
    // wait(2): the low seven bits are the signal, the next eight the exit code.
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code << 8,
        (None, Some(signal)) => signal | if status.dumped() { 0x80 } else { 0 },
        (None, None) => 0,
    };
    ExitStatus::from_raw(raw)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_process_with_several_threads_is_not_forked() {
        // The test harness runs every test on a thread of its own.
        assert!(!is_single_threaded().unwrap());
        assert_eq!(fork().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn a_pidfd_tells_the_end_of_a_child_and_its_status() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pidfd = pidfd_open(child.id()).unwrap();
        assert!(!has_ended(pidfd.as_fd()).unwrap());
        drop(child.stdin.take());
        let status = wait_pidfd(pidfd.as_fd()).unwrap();
        assert_eq!(status.code(), Some(7));
        assert!(has_ended(pidfd.as_fd()).unwrap());
        // The status was taken.
        assert!(child.wait().is_err());
    }

    #[test]
    fn a_pidfd_is_told_from_other_descriptors_whether_or_not_its_process_is_there() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let of_child = pidfd_open(child.id()).unwrap();
        let of_other = pidfd_open(std::process::id()).unwrap();
        assert!(is_pidfd(of_child.as_fd()));
        assert!(is_pidfd(of_other.as_fd()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(is_pidfd(of_child.as_fd()));
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(!is_pidfd(reader.as_fd()));
        let directory = std::fs::File::open("/proc/self").unwrap();
        assert!(!is_pidfd(directory.as_fd()));
    }

    #[test]
    fn a_signal_reaches_the_child_and_shows_in_its_status() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pidfd = pidfd_open(child.id()).unwrap();
        pidfd_send_signal(pidfd.as_fd(), Signal::KILL).unwrap();
        let status = wait_pidfd(pidfd.as_fd()).unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        // Nobody is left to get a second one.
        assert!(pidfd_send_signal(pidfd.as_fd(), Signal::KILL).is_err());
        assert!(child.wait().is_err());
    }

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let stat = "42 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 777 20 21";
        // The state is field 3, so field 22 is the nineteenth number after it.
        assert_eq!(start_time_in(stat), Some(19));
        assert_eq!(start_time_in("42 (cat"), None);
        assert_eq!(start_time_in("42 (cat) S 1 2"), None);
    }

    #[test]
    fn a_later_process_has_a_later_start_time() {
        let own = start_time(std::process::id()).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let later = start_time(child.id()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(later >= own);
        assert!(own > 0);
    }

    #[test]
    fn numbers_that_are_no_process_are_errors() {
        for pid in [0, 4_194_305, u32::MAX] {
            assert_eq!(
                pidfd_open(pid).unwrap_err().raw_os_error(),
                Some(libc::ESRCH),
                "{pid}"
            );
        }
    }

    #[test]
    fn a_child_is_killed_and_waited_for_by_its_number() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        assert!(try_wait(pid).unwrap().is_none());
        kill_child(pid).unwrap();
        let pidfd = pidfd_open(pid).unwrap();
        assert!(watch::wait_readable(pidfd.as_fd(), None).unwrap());
        let status = try_wait(pid).unwrap().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        // The status was taken.
        assert!(try_wait(pid).is_err());
        assert!(child.wait().is_err());
    }

    #[test]
    fn a_secluded_process_has_what_it_keeps_and_nothing_else_to_take() {
        const SECLUDED: &str = "HEDDLE_TEST_SECLUDED";
        const NAME: &str =
            "process::tests::a_secluded_process_has_what_it_keeps_and_nothing_else_to_take";
        if std::env::var_os(SECLUDED).is_none() {
            // It is the whole process that is secluded: one of this test's own.
            let child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture"])
                .env(SECLUDED, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success(), "{said}");
            assert!(said.contains("1 passed"), "{said}");
            return;
        }
        let (kept, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (taken, other_writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        for writer in [&writer, &other_writer] {
            assert_eq!(rustix::io::write(writer, b"here").unwrap(), 4);
        }
        seclude(&[kept.as_fd()]).unwrap();
        assert_eq!(rustix::io::read(&kept, &mut [0; 8]).unwrap(), 4);
        assert_eq!(rustix::io::read(&taken, &mut [0; 8]).unwrap(), 0);
        assert!(rustix::io::write(&writer, b"more").is_err());
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            DumpableBehavior::NotDumpable
        );
        // What plumbing needs of `/proc` is still to be had.
        assert!(start_time(std::process::id()).is_ok());
        assert!(std::fs::File::open("/proc/thread-self/ns/net").is_ok());
        assert!(descriptors_from(3).unwrap().len() >= 4);
    }
}
