//! Processes.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;

use heddle_sys::fdpass;
use heddle_sys::namespace::{NamespaceKind, unshare};
use heddle_sys::process::{self, Fork, Signal};
use rustix::io::FdFlags;

use crate::harness::{Job, cases, eventually};

cases![
    a_forked_child_runs_and_its_status_comes_back,
    a_child_ends_with_its_parent,
    a_new_user_namespace_takes_the_parent_death_signal_away,
    a_subreaper_gets_its_grandchildren,
    inherited_descriptors_are_closed_and_own_ones_are_not,
    an_inherited_ignored_sigchld_no_longer_hides_children,
    a_broken_pipe_is_an_error_or_an_end_as_chosen,
    names_and_privileges_are_set,
];

/// Waits for nothing, until it is killed.
fn idle() -> ! {
    loop {
        let _ = rustix::event::poll(&mut [], None);
    }
}

fn a_forked_child_runs_and_its_status_comes_back() {
    for status in [0, 1, 200, 255] {
        match process::fork().unwrap() {
            Fork::Child => process::exit(status),
            Fork::Parent { child } => {
                assert_eq!(
                    process::wait(child).unwrap().code(),
                    Some(i32::from(status))
                );
                // Once only.
                assert!(process::wait(child).is_err());
            }
        }
    }
    assert!(process::is_single_threaded().unwrap());
}

fn a_child_ends_with_its_parent() {
    let (near, far) = fdpass::socketpair_seqpacket().unwrap();
    let parent = Job::spawn(|| {
        let parent = std::process::id();
        let Fork::Parent { .. } = process::fork().unwrap() else {
            process::set_parent_death_signal(Signal::KILL, parent).unwrap();
            // Of somebody who is not the parent there is nothing to be told.
            let error = process::set_parent_death_signal(Signal::KILL, 1).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            fdpass::send(far.as_fd(), b"ready", &[]).unwrap();
            idle()
        };
        idle()
    });
    drop(far);
    assert_eq!(
        fdpass::receive(near.as_fd(), &mut [0; 8], 0).unwrap().len,
        5
    );
    drop(parent);
    // The child held the other end and did not close it by itself.
    assert_eq!(
        fdpass::receive(near.as_fd(), &mut [0; 8], 0).unwrap().len,
        0
    );
}

fn a_new_user_namespace_takes_the_parent_death_signal_away() {
    let parent = std::process::id();
    Job::spawn(|| {
        process::set_parent_death_signal(Signal::KILL, parent).unwrap();
        assert_eq!(
            rustix::process::parent_process_death_signal().unwrap(),
            Some(Signal::KILL)
        );
        unshare(&[NamespaceKind::Network]).unwrap();
        assert_eq!(
            rustix::process::parent_process_death_signal().unwrap(),
            Some(Signal::KILL)
        );
        unshare(&[NamespaceKind::User]).unwrap();
        vec![u8::from(
            rustix::process::parent_process_death_signal()
                .unwrap()
                .is_none(),
        )]
    })
    .join();
}

fn a_subreaper_gets_its_grandchildren() {
    process::set_child_subreaper().unwrap();
    assert_eq!(process::reap().unwrap(), None);
    let Fork::Parent { child } = process::fork().unwrap() else {
        // The grandchild ends after its parent, with a status of its own.
        let (end, writer) = rustix::pipe::pipe().unwrap();
        match process::fork().unwrap() {
            Fork::Child => {
                drop(writer);
                let _ = rustix::io::read(&end, &mut [0; 1]);
                process::exit(42)
            }
            Fork::Parent { .. } => process::exit(1),
        }
    };
    assert_eq!(process::wait(child).unwrap().code(), Some(1));
    let mut grandchild = None;
    eventually("the grandchild was reaped", || {
        grandchild = process::reap().unwrap();
        grandchild.is_some()
    });
    assert_eq!(grandchild.unwrap().1.code(), Some(42));
    assert_eq!(process::reap().unwrap(), None);
}

fn inherited_descriptors_are_closed_and_own_ones_are_not() {
    let (inherited, own) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (kept, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    // As they would have come through an exec.
    for fd in [&inherited, &kept] {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    process::close_from(3, &[kept.as_raw_fd()]).unwrap();
    assert!(rustix::io::fcntl_getfd(&own).is_ok());
    assert!(rustix::io::fcntl_getfd(&kept).is_ok());
    assert_eq!(
        rustix::io::fcntl_getfd(&inherited).unwrap_err(),
        rustix::io::Errno::BADF
    );
    // It is closed already.
    std::mem::forget(inherited);
    for fd in 0..3 {
        // SAFETY: only asked for its flags.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        assert!(rustix::io::fcntl_getfd(fd).is_ok());
    }
}

fn an_inherited_ignored_sigchld_no_longer_hides_children() {
    // SAFETY: ignoring a signal involves no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let end = |child| {
        let Fork::Parent { child } = child else {
            process::exit(3)
        };
        process::wait(child)
    };
    assert_eq!(
        end(process::fork().unwrap()).unwrap_err().raw_os_error(),
        Some(libc::ECHILD)
    );
    process::restore_signal_defaults().unwrap();
    assert_eq!(end(process::fork().unwrap()).unwrap().code(), Some(3));
}

fn a_broken_pipe_is_an_error_or_an_end_as_chosen() {
    let write_to_nobody = || {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        rustix::io::write(&writer, b"x").unwrap_err()
    };
    process::ignore_broken_pipes().unwrap();
    assert_eq!(write_to_nobody(), rustix::io::Errno::PIPE);
    let Fork::Parent { child } = process::fork().unwrap() else {
        process::restore_signal_defaults().unwrap();
        write_to_nobody();
        process::exit(0)
    };
    assert_eq!(process::wait(child).unwrap().signal(), Some(libc::SIGPIPE));
}

fn names_and_privileges_are_set() {
    process::set_name("heddle-with-a-long-name").unwrap();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(name, "heddle-with-a-l\n");
    assert!(!rustix::thread::no_new_privs().unwrap());
    process::set_no_new_privs().unwrap();
    assert!(rustix::thread::no_new_privs().unwrap());
}
