//! Descriptors between processes.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use heddle_sys::fdpass;
use heddle_sys::namespace::{NamespaceKind, unshare};

use crate::harness::{Job, cases};

cases![
    a_descriptor_outlives_the_process_that_opened_it,
    a_peer_out_of_sight_has_no_number,
    descriptors_beyond_the_limit_are_reported_and_not_lost_in_silence,
];

fn a_descriptor_outlives_the_process_that_opened_it() {
    let (near, far) = fdpass::socketpair_seqpacket().unwrap();
    Job::spawn(|| {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        std::fs::File::from(writer)
            .write_all(b"from the other process")
            .unwrap();
        fdpass::send(far.as_fd(), b"pipe", &[reader.as_fd()]).unwrap();
        Vec::new()
    })
    .join();
    let mut received = fdpass::receive(near.as_fd(), &mut [0; 16], 1).unwrap();
    let mut text = String::new();
    std::fs::File::from(received.fds.remove(0))
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "from the other process");
}

fn a_peer_out_of_sight_has_no_number() {
    let (near, far) = fdpass::socketpair_seqpacket().unwrap();
    let own = fdpass::peer_credentials(far.as_fd()).unwrap();
    assert_eq!((own.pid, own.uid, own.gid), (std::process::id(), 0, 0));
    Job::spawn(|| {
        // From here on children are in a process namespace of their own, out of which they see
        // nobody.
        unshare(&[NamespaceKind::Pid]).unwrap();
        Job::spawn(|| {
            let peer = fdpass::peer_credentials(near.as_fd()).unwrap();
            assert_eq!((peer.pid, peer.uid, peer.gid), (0, 0, 0));
            Vec::new()
        })
        .join();
        Vec::new()
    })
    .join();
}

fn descriptors_beyond_the_limit_are_reported_and_not_lost_in_silence() {
    let (near, far) = fdpass::socketpair_seqpacket().unwrap();
    let open: Vec<OwnedFd> = (0..8)
        .map(|_| near.as_fd().try_clone_to_owned().unwrap())
        .collect();
    let borrowed: Vec<_> = open.iter().map(AsFd::as_fd).collect();
    fdpass::send(near.as_fd(), b"x", &borrowed).unwrap();
    fdpass::send_all_fds(near.as_fd(), &borrowed).unwrap();
    drop(open);
    let (soft, _) = heddle_sys::limits::fd_limit();
    let highest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&far)).unwrap();
    // Room for three more.
    heddle_sys::limits::set_soft_fd_limit(highest + 4).unwrap();
    let received = fdpass::receive(far.as_fd(), &mut [0; 1], 8).unwrap();
    assert!(received.fds_truncated);
    assert_eq!(received.fds.len(), 3);
    drop(received);
    assert!(fdpass::receive_all_fds(far.as_fd(), 8).is_err());
    heddle_sys::limits::set_soft_fd_limit(soft).unwrap();
}
