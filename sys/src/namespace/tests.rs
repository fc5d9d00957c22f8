use super::*;

#[test]
fn the_own_namespace_is_recognised_and_refused() {
    for kind in [
        NamespaceKind::Network,
        NamespaceKind::User,
        NamespaceKind::Mount,
    ] {
        let own = Namespace::open_pid(std::process::id(), kind).unwrap();
        assert_eq!(own.kind(), kind);
        assert!(own.is_current().unwrap());
        let refusal = own.expect_foreign().unwrap_err();
        assert_eq!(
            refusal.to_string(),
            format!("this is heddle's own {kind} namespace")
        );
    }
}

#[test]
fn a_passed_descriptor_tells_its_kind() {
    let network = Namespace::current(NamespaceKind::Network).unwrap();
    let network = Namespace::from_fd(OwnedFd::from(network)).unwrap();
    assert_eq!(network.kind(), NamespaceKind::Network);
    let refusal = network.expect_kind(NamespaceKind::User).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "this is a network namespace, not a user namespace"
    );
}

#[test]
fn other_files_are_not_namespaces() {
    let directory = open("/".as_ref(), OFlags::RDONLY).unwrap();
    assert!(matches!(
        Namespace::from_fd(directory),
        Err(NamespaceError::NotNamespace { .. })
    ));
    let refusal = Namespace::open_path("/dev/null".as_ref()).unwrap_err();
    assert_eq!(refusal.to_string(), "/dev/null is not a namespace");
    let refusal = Namespace::open_path("/nonexistent/namespace".as_ref()).unwrap_err();
    assert_eq!(refusal.to_string(), "/nonexistent/namespace does not exist");
}

#[test]
fn a_pipe_at_the_path_does_not_block() {
    let directory = std::env::temp_dir().join(format!("heddle-sys-pipe-{}", std::process::id()));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &directory,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let result = Namespace::open_path(&directory);
    std::fs::remove_file(&directory).unwrap();
    assert!(matches!(result, Err(NamespaceError::NotNamespace { .. })));
}

#[test]
fn a_process_that_does_not_exist_is_named() {
    // One above the largest number that the kernel ever gives (PID_MAX_LIMIT).
    let refusal = Namespace::open_pid(4_194_305, NamespaceKind::Network).unwrap_err();
    assert_eq!(refusal.to_string(), "no process 4194305");
}

#[test]
fn kinds_that_heddle_does_not_deal_with_are_not_namespaces_to_it() {
    let uts = open("/proc/self/ns/uts".as_ref(), OFlags::RDONLY).unwrap();
    assert!(matches!(
        Namespace::from_fd(uts),
        Err(NamespaceError::NotNamespace { .. })
    ));
}

#[test]
fn a_thread_of_many_cannot_make_a_user_namespace() {
    // The test harness runs every test on a thread of its own.
    let refusal = unshare(&[NamespaceKind::User, NamespaceKind::Network]).unwrap_err();
    assert!(
        matches!(refusal, NamespaceError::MultiThreaded),
        "{refusal}"
    );
}
