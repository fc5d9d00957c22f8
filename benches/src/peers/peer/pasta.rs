//! pasta: no switch, but what rootless containers are joined to the outside with.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use heddle_sys::clock::nanoseconds;
use heddle_sys::namespace::{Maps, NamespaceKind, unshare, write_id_maps};
use heddle_sys::netlink::Netlink;
use heddle_sys::process::{self, Signal};
use heddle_sys::sysctl;
use heddle_sys::watch::wait_readable;
use heddle_wire::Family;

use super::Peer;
use crate::ground::{OUTSIDE, OUTSIDE_SERVER, of, setup};
use crate::job::Job;
use crate::problem::Problem;
use crate::sandbox::{INTERFACE, Setup, configure, set_up, veth, wait_until_swept};
use crate::stage::Stage;

/// Addresses of the host that the container does not take for its own (RFC 5737, RFC 3849).
const HOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1)),
];

/// How long pasta may take to start and to answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// Who runs it, as its namespace knows him.
const USER: u32 = 1000;

/// The other end of the host's interface.
const FAR: &str = "far";

const PROGRAM: &str = "pasta";

pub(super) struct Pasta;

impl Peer for Pasta {
    fn name(&self) -> &'static str {
        "pasta"
    }

    fn program(&self) -> Option<&'static str> {
        Some(PROGRAM)
    }

    /// It makes a namespace of its own and runs this program in it, to ask an address that the host
    /// answers itself.
    fn attach(&self, stage: &Stage, family: Family) -> Result<Option<f64>, Problem> {
        let directory = stage.directory()?;
        let [said, log] = ["said", "log"].map(|file| directory.path().join(file));
        let mut command = Command::new(PROGRAM);
        command
            .args(["--config-net", "--quiet"])
            .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
            .arg("--")
            .arg(std::env::current_exe()?)
            .arg("--ping")
            .arg(of(HOST, family).to_string())
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(File::create(&log)?);
        wait_until_swept()?;
        let begin = Job::spawn(|| run_to_the_last(command))?.join()?;
        match fs::read_to_string(&said)?.trim().parse::<u64>() {
            Ok(end) => Ok(Some(Duration::from_nanos(end - begin).as_secs_f64())),
            Err(_) => {
                let words = fs::read_to_string(&log)?;
                Err(format!("no answer {}", words.trim()).into())
            }
        }
    }
}

/// Runs pasta for a while and then ends it and everything it has started; when it began. pasta forks,
/// and what it forks would outlive it: those children become ours.
fn run_to_the_last(mut command: Command) -> Result<u64, Problem> {
    process::set_child_subreaper()?;
    become_host()?;
    let begin = nanoseconds();
    let child = command.spawn()?;
    let result = process::pidfd_open(child.id())
        .and_then(|child| wait_readable(child.as_fd(), Some(ANSWER_TIME)));
    loop {
        let children = fs::read_to_string("/proc/thread-self/children")?;
        let Some(child) = children.split_ascii_whitespace().next() else {
            break;
        };
        let child: u32 = child.parse()?;
        // Ours, and not waited for: the number cannot be another one's.
        let descriptor = process::pidfd_open(child)?;
        process::pidfd_send_signal(descriptor.as_fd(), Signal::KILL)?;
        process::wait(child)?;
    }
    result?;
    Ok(begin)
}

/// Moves this process onto a host of its own whose interface has a default route, which is what pasta
/// copies, as an ordinary user there: pasta makes itself nobody where it is root, and then may not do much.
fn become_host() -> Result<(), Problem> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    unshare(&[NamespaceKind::User, NamespaceKind::Network])?;
    write_id_maps(
        std::process::id(),
        &Maps::single(USER, user.as_raw()),
        &Maps::single(USER, group.as_raw()),
    )?;
    // Without it pasta cannot ask the host for echoes, and it shows.
    let _ = sysctl::write("net/ipv4/ping_group_range", &format!("{USER} {USER}"))?;
    let mut netlink = Netlink::open()?;
    let own = Setup {
        addresses: HOST.into_iter().zip([32, 128]).collect(),
        gateways: Vec::new(),
    };
    configure(&mut netlink, "lo", &own)?;
    netlink.create_veth(&veth(FAR, INTERFACE, None))?;
    set_up(&mut netlink, FAR)?;
    let host = Setup {
        gateways: OUTSIDE_SERVER.to_vec(),
        ..setup(OUTSIDE)
    };
    configure(&mut netlink, INTERFACE, &host)
}
