//! Capabilities.

use heddle_sys::capability::{Capability, drop_all, has};
use heddle_sys::netlink::{LinkChange, Netlink};

use crate::harness::cases;

cases![what_is_dropped_is_gone_for_good];

fn what_is_dropped_is_gone_for_good() {
    let all = [
        Capability::NetAdmin,
        Capability::NetRaw,
        Capability::NetBindService,
        Capability::SysAdmin,
        Capability::SysPtrace,
        Capability::SetGid,
        Capability::SetUid,
        Capability::DacOverride,
    ];
    for capability in all {
        assert!(has(capability).unwrap(), "{capability}");
    }
    let mut netlink = Netlink::open().unwrap();
    let loopback = netlink.link("lo").unwrap().index;
    let change = LinkChange {
        tx_queue_len: Some(500),
        ..LinkChange::default()
    };
    netlink.set_link(loopback, &change).unwrap();

    drop_all().unwrap();
    for capability in all {
        assert!(!has(capability).unwrap(), "{capability}");
    }
    let refusal = netlink.set_link(loopback, &change).unwrap_err();
    assert!(refusal.is_forbidden(), "{refusal:?}");
    // Root of this user namespace as it is, a program it executes gets none back.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    // Nothing is left to be dropped, which is no error.
    drop_all().unwrap();
}
