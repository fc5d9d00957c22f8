//! Namespaces and what they are watched by.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use heddle_sys::capability::{self, Capability};
use heddle_sys::fdpass;
use heddle_sys::namespace::{
    IdMapError, IdRange, Maps, Namespace, NamespaceError, NamespaceKind, unshare, write_id_maps,
};
use heddle_sys::netlink::{LinkChange, Netlink};
use heddle_sys::process::{self, Fork};
use heddle_sys::watch::{PathWatch, wait_readable};

use crate::harness::{Job, cases, eventually, skip};
use crate::lab::Sandbox;

cases![
    a_container_is_entered_through_the_user_namespace_that_owns_it,
    a_namespace_deep_below_is_entered_as_well,
    the_owner_and_its_user_are_told,
    a_namespace_bound_to_a_path_is_opened_and_its_removal_noticed,
    an_ended_process_has_no_namespaces,
    a_more_privileged_process_is_out_of_reach,
    a_namespace_above_has_no_owner_to_be_entered,
    a_socket_tells_its_namespace,
    maps_are_written_once_and_deny_groups,
    maps_that_were_not_granted_are_refused,
    the_limit_of_namespaces_is_told,
];

fn a_container_is_entered_through_the_user_namespace_that_owns_it() {
    let sandbox = Sandbox::rootless();
    let network = Namespace::open_pid(sandbox.pid(), NamespaceKind::Network).unwrap();
    assert!(!network.is_current().unwrap());
    let network = network.expect_foreign().unwrap();
    Job::spawn(|| {
        // Without capabilities here, as an ordinary user has none: the container is that user's.
        capability::drop_all().unwrap();
        let refusal = network.enter().unwrap_err();
        assert!(
            matches!(refusal, NamespaceError::EnterRefused { .. }),
            "{refusal}"
        );
        network.enter_with_owner().unwrap();
        assert!(network.is_current().unwrap());
        assert!(network.owner().unwrap().is_current().unwrap());
        assert!(capability::has(Capability::NetAdmin).unwrap());
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link("lo").unwrap().index;
        let change = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        netlink.set_link(index, &change).unwrap();
        Vec::new()
    })
    .join();
}

fn a_namespace_deep_below_is_entered_as_well() {
    let (near, far) = fdpass::socketpair_seqpacket().unwrap();
    let _deep = Job::spawn(|| {
        for _ in 0..3 {
            unshare(&[NamespaceKind::User]).unwrap();
            let pid = std::process::id();
            write_id_maps(pid, &Maps::single(0, 0), &Maps::single(0, 0)).unwrap();
        }
        unshare(&[NamespaceKind::Network]).unwrap();
        let network = Namespace::current(NamespaceKind::Network).unwrap();
        fdpass::send(far.as_fd(), b"network", &[network.as_fd()]).unwrap();
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    });
    drop(far);
    let fd = fdpass::receive(near.as_fd(), &mut [0; 8], 1)
        .unwrap()
        .fds
        .remove(0);
    let network = Namespace::from_fd(fd).unwrap();
    Job::spawn(|| {
        capability::drop_all().unwrap();
        network.enter_with_owner().unwrap();
        assert!(capability::has(Capability::NetAdmin).unwrap());
        Vec::new()
    })
    .join();
}

fn the_owner_and_its_user_are_told() {
    let sandbox = Sandbox::rootless();
    let owner = sandbox.network.owner().unwrap();
    assert_eq!(owner.kind(), NamespaceKind::User);
    assert_eq!(owner.owner_uid().unwrap(), 0);
    let users = Namespace::open_pid(sandbox.pid(), NamespaceKind::User).unwrap();
    assert_eq!(owner.identity().unwrap(), users.identity().unwrap());
    // This process is in its own.
    let own = Namespace::current(NamespaceKind::Network)
        .unwrap()
        .owner()
        .unwrap();
    assert!(own.is_current().unwrap());
}

/// Binds the namespace of `network` to a new file, as `ip netns add` does.
fn bind_to_path(network: &Namespace) -> PathBuf {
    let directory = Path::new("/tmp");
    let in_place =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", in_place).unwrap();
    rustix::mount::mount(
        "heddle",
        directory,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    let path = directory.join("container");
    std::fs::write(&path, "").unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&network.as_fd());
    rustix::mount::mount_bind(format!("/proc/self/fd/{fd}"), &path).unwrap();
    path
}

fn a_namespace_bound_to_a_path_is_opened_and_its_removal_noticed() {
    let sandbox = Sandbox::new();
    let path = bind_to_path(&sandbox.network);
    let identity = sandbox.network.identity().unwrap();
    drop(sandbox);
    // Nobody is inside any more; the mount keeps it.
    let network = Namespace::open_path(&path).unwrap();
    assert_eq!(network.kind(), NamespaceKind::Network);
    assert_eq!(network.identity().unwrap(), identity);

    let mut watch = PathWatch::new(&path).unwrap();
    assert!(!watch.is_removed().unwrap());
    // As `ip netns delete` does.
    rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(wait_readable(watch.as_fd(), None).unwrap());
    assert!(watch.is_removed().unwrap());
    let refusal = Namespace::open_path(&path).unwrap_err();
    assert!(
        matches!(refusal, NamespaceError::NoPath { .. }),
        "{refusal}"
    );
}

fn an_ended_process_has_no_namespaces() {
    let Fork::Parent { child } = process::fork().unwrap() else {
        process::exit(0)
    };
    let pidfd = process::pidfd_open(child).unwrap();
    assert!(wait_readable(pidfd.as_fd(), None).unwrap());
    for _ in 0..2 {
        // First not yet waited for, then gone.
        let refusal = Namespace::open_pid(child, NamespaceKind::Network).unwrap_err();
        assert_eq!(refusal.to_string(), format!("no process {child}"));
        let _ = process::wait(child);
    }
}

fn a_more_privileged_process_is_out_of_reach() {
    // The first process of the machine, seen from a user namespace of one user.
    let refusal = Namespace::open_pid(1, NamespaceKind::Network).unwrap_err();
    assert!(
        matches!(refusal, NamespaceError::ForeignProcess { pid: 1 }),
        "{refusal}"
    );
    assert!(refusal.hint().is_some());
}

fn a_namespace_above_has_no_owner_to_be_entered() {
    let own = Namespace::current(NamespaceKind::Network).unwrap();
    Job::spawn(|| {
        unshare(&[NamespaceKind::User]).unwrap();
        let refusal = own.enter_with_owner().unwrap_err();
        assert!(
            matches!(refusal, NamespaceError::OwnerOutOfReach { .. }),
            "{refusal}"
        );
        Vec::new()
    })
    .join();
}

fn a_socket_tells_its_namespace() {
    let sandbox = Sandbox::rootless();
    let socket: OwnedFd = sandbox.netlink().into();
    let told = Namespace::of_socket(socket.as_fd()).unwrap();
    assert_eq!(
        told.identity().unwrap(),
        sandbox.network.identity().unwrap()
    );
    Job::spawn(|| {
        unshare(&[NamespaceKind::User]).unwrap();
        let refusal = Namespace::of_socket(socket.as_fd()).unwrap_err();
        assert!(
            matches!(refusal, NamespaceError::EnterRefused { .. }),
            "{refusal}"
        );
        Vec::new()
    })
    .join();
}

/// A child in a new user namespace without maps, until it is told to look; then it reports its user
/// and group numbers.
fn unmapped_child(work: impl FnOnce(u32)) -> Vec<u8> {
    let (near, far) = fdpass::socketpair_seqpacket().unwrap();
    let child = Job::spawn(|| {
        unshare(&[NamespaceKind::User]).unwrap();
        fdpass::send(far.as_fd(), b"made", &[]).unwrap();
        fdpass::receive(far.as_fd(), &mut [0; 8], 0).unwrap();
        let groups = std::fs::read_to_string("/proc/self/setgroups").unwrap();
        let users = rustix::process::geteuid().as_raw();
        format!("{users} {} {groups}", rustix::process::getegid().as_raw()).into_bytes()
    });
    fdpass::receive(near.as_fd(), &mut [0; 8], 0).unwrap();
    work(child.pid);
    fdpass::send(near.as_fd(), b"look", &[]).unwrap();
    child.join()
}

fn maps_are_written_once_and_deny_groups() {
    let report = unmapped_child(|pid| {
        let (users, groups) = (Maps::single(1234, 0), Maps::single(567, 0));
        write_id_maps(pid, &users, &groups).unwrap();
        assert_eq!(Maps::users_of(pid).unwrap(), users);
        assert_eq!(Maps::groups_of(pid).unwrap(), groups);
        let refusal = write_id_maps(pid, &users, &groups).unwrap_err();
        assert!(
            matches!(refusal, IdMapError::AlreadySet { map: "user" }),
            "{refusal}"
        );
    });
    assert_eq!(report, b"1234 567 deny\n");
}

fn maps_that_were_not_granted_are_refused() {
    unmapped_child(|pid| {
        // Only user 0 exists here.
        let wide = Maps::new(vec![IdRange {
            inside: 0,
            outside: 0,
            count: 2,
        }]);
        let refusal = write_id_maps(pid, &wide, &wide).unwrap_err();
        assert!(
            matches!(refusal, IdMapError::Refused { map: "user", .. }),
            "{refusal}"
        );
        assert_eq!(refusal.to_string(), "the user map 0 0 2 was refused");
        let overlapping = Maps::new(vec![
            IdRange {
                inside: 0,
                outside: 0,
                count: 1
            };
            2
        ]);
        let refusal = write_id_maps(pid, &overlapping, &overlapping).unwrap_err();
        assert!(matches!(refusal, IdMapError::Refused { .. }), "{refusal}");
    });
}

fn the_limit_of_namespaces_is_told() {
    if std::fs::write("/proc/sys/user/max_net_namespaces", "1").is_err() {
        skip("/proc/sys/user is not writable");
    }
    let mut held = Vec::new();
    eventually("the limit was reached", || {
        held.push(Namespace::current(NamespaceKind::Network).unwrap());
        match unshare(&[NamespaceKind::Network]) {
            Ok(()) => false,
            Err(refusal) => {
                assert!(matches!(refusal, NamespaceError::TooMany), "{refusal}");
                true
            }
        }
    });
    assert!(held.len() <= 2, "{}", held.len());
}
