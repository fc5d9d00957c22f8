//! From a command line to a daemon that serves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use heddle_switch::{Event, Switch, Worker};
use heddle_sys::process;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify};

use super::core::{Core, Settings, internal, now};
use super::descriptors;
use super::http;
use super::journal::Journal;
use super::keeper_link::KeeperLink;
use super::listen::{self, Admission};
use super::options::Options;
use super::place;
use super::records::{INSTALLATION, Installation, Records, put};
use super::restore::restore;
use super::rules::note_logged;
use super::service::Service;
use super::status::Facts;
use super::tokens::Tokens;
use super::watches::Watches;
use crate::api::{ApiError, EndpointKind, ErrorCode};
use crate::keeper::{self, Inherited};
use crate::store::{RedbStore, Store};

/// Worker threads unless told otherwise: one for two cores, up to this many. Those who send the frames
/// need the other core.
const MOST_WORKERS: usize = 4;

/// How long the workers may take to end, and after them whatever else still works.
const END_TIME: Duration = Duration::from_secs(2);

/// Between two looks whether they have.
const LOOK: Duration = Duration::from_millis(2);

/// Runs a daemon and its keeper until it is told to end; returns the exit status.
///
/// # Errors
///
/// What keeps it from starting, in the user's terms.
pub fn run(options: &Options) -> Result<u8, ApiError> {
    // The keeper's too: it holds all that the daemon does.
    heddle_sys::limits::raise_fd_limit()
        .map_err(|error| internal(&format!("starting: {error}")))?;
    let _lock = place::lock(&options.sockets, options.allow_group)?;
    let api = place::bind(&options.sockets.api, options.allow_group)?;
    let descriptors = place::bind(&options.sockets.descriptors(), options.allow_group)?;
    let status = keeper::run(
        &api,
        &descriptors,
        &|inherited| match daemon(options, inherited) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(hint = error.error.hint, "{error}");
                keeper::START_FAILED
            }
        },
    );
    // No daemon lives any more.
    place::unbind(&options.sockets);
    match status {
        Ok(status) => Ok(status),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(internal(&format!("the keeper: {error}"))),
    }
}

/// The daemon proper.
fn daemon(options: &Options, inherited: Inherited) -> Result<(), ApiError> {
    let started = |error: io::Error| internal(&format!("starting: {error}"));
    // A name in `ps` is a courtesy.
    let _ = process::set_name("heddle");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(started)?;
    let result = runtime.block_on(serve(options, inherited));
    // Something may hang in the kernel; the process ends all the same.
    runtime.shutdown_timeout(END_TIME);
    result
}

async fn serve(options: &Options, inherited: Inherited) -> Result<(), ApiError> {
    let Inherited {
        api,
        descriptors,
        keeper,
        keeper_pid,
        restarts,
    } = inherited;
    let failed = |error: io::Error| internal(&format!("starting: {error}"));
    // First of all: until then a signal is lost.
    let mut signals = EndSignals::handle().map_err(failed)?;
    let (keeper, left_behind) = KeeperLink::open(keeper).map_err(failed)?;
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&options.store).map_err(store_failed)?);
    let (records, installation) = read_store(&*store)?;
    let gone = Arc::new(Notify::new());
    let (switch, workers) = make_switch(options, gone.clone())?;
    let switch = Arc::new(switch);
    let facts = Facts {
        keeper_pid,
        restarts,
        store: store.location(),
        started: heddle_sys::clock::monotonic(),
    };
    let service = Arc::new(Service {
        core: Mutex::new(Core::new(settings(options), switch.clone(), installation)),
        journal: Journal::start(store),
        keeper,
        tokens: Tokens::default(),
        watches: Watches::default(),
        networks: Mutex::new(()),
        facts,
        stop: Notify::new(),
        ended: Notify::new(),
        rules_changed: Notify::new(),
        gone,
    });
    restore(&service, records, left_behind).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let worker_failed = Arc::new(AtomicBool::new(false));
    let threads = start_workers(workers, &stop, &worker_failed, &service)?;
    let admission = Admission {
        own_uid: rustix::process::geteuid().as_raw(),
        group: options.allow_group,
    };
    let routes = http::routes(service.clone());
    let api = listen::adopt(api).map_err(failed)?;
    tokio::spawn(listen::accept(api, admission, move |stream, caller| {
        listen::serve_http(stream, caller, routes.clone())
    }));
    let descriptors = listen::adopt(descriptors).map_err(failed)?;
    let passing = service.clone();
    tokio::spawn(listen::accept(
        descriptors,
        admission,
        move |stream, caller| descriptors::serve(stream, caller, passing.clone()),
    ));
    tokio::spawn(end_what_is_gone(service.clone()));
    tokio::spawn(note_logged(service.clone()));
    service.keeper.ready().await;
    tracing::info!(socket = %options.sockets.api.display(), "ready");
    wait_for_end(&service, options, &mut signals).await;
    let worker_failed = worker_failed.load(Ordering::Relaxed);
    if !worker_failed {
        // Whoever comes from now on finds nobody, instead of somebody who does not listen any more.
        place::unbind(&options.sockets);
        service.keeper.goodbye().await;
    }
    service.journal.commit(Vec::new()).await?;
    stop.store(true, Ordering::Relaxed);
    switch.wake_workers();
    if !join(threads).await {
        tracing::error!("a worker does not end; ending without it");
    }
    if worker_failed {
        // Without a goodbye: the keeper starts another daemon, which takes up every endpoint.
        return Err(internal("the dataplane cannot go on"));
    }
    Ok(())
}

/// Waits for the workers' end, for a while; whether they have ended.
async fn join(threads: Vec<JoinHandle<()>>) -> bool {
    let deadline = heddle_sys::clock::monotonic() + END_TIME;
    while !threads.iter().all(JoinHandle::is_finished) {
        if heddle_sys::clock::monotonic() >= deadline {
            return false;
        }
        super::after(LOOK).await;
    }
    for thread in threads {
        // A worker's panic has been reported where it happened.
        let _ = thread.join();
    }
    true
}

fn store_failed(error: crate::store::StoreError) -> ApiError {
    ApiError::new(ErrorCode::StoreFailed, error.to_string())
        .hint("choose another file with --store")
}

fn read_store(store: &dyn Store) -> Result<(Records, Installation), ApiError> {
    let mut records = Records::read(&store.load().map_err(store_failed)?).map_err(|problem| {
        let message = format!("the store {}: {problem}", store.location());
        ApiError::new(ErrorCode::StoreFailed, message).hint(
            "it is of another version, or damaged: start with another file, or move it away to \
             begin anew",
        )
    })?;
    let installation = match records.installation.take() {
        Some(installation) => installation,
        None => {
            let installation = Installation {
                key: super::random()?,
            };
            store
                .commit(&[put(INSTALLATION.to_owned(), &installation)])
                .map_err(store_failed)?;
            installation
        }
    };
    Ok((records, installation))
}

fn settings(options: &Options) -> Settings {
    let tun_fault = heddle_sys::tap::usable()
        .err()
        .map(|error| error.to_string());
    let default_kind = match (options.endpoint, &tun_fault) {
        (Some(kind), _) => kind,
        (None, None) => EndpointKind::Tap,
        (None, Some(_)) => EndpointKind::Veth,
    };
    Settings {
        default_kind,
        tun_fault,
    }
}

fn make_switch(options: &Options, gone: Arc<Notify>) -> Result<(Switch, Vec<Worker>), ApiError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = options
        .workers
        .map_or((cores / 2).clamp(1, MOST_WORKERS), usize::from);
    let sessions = heddle_nat::Limits {
        sessions: options.sessions,
        sessions_per_owner: options.endpoint_sessions,
        half_open_per_owner: options.endpoint_half_open,
        mappings_per_owner: options.endpoint_mappings,
        ..heddle_nat::Limits::default()
    };
    Switch::new(heddle_switch::Options {
        workers,
        sessions,
        stations: heddle_switch::fdb::Limits::default(),
        seed: None,
        now: now(),
        // The port itself remembers; one call stands for any number of them.
        on_event: Box::new(move |Event::EndpointGone(_)| gone.notify_one()),
    })
    .map_err(|error| internal(&format!("starting the dataplane: {error}")))
}

fn start_workers(
    workers: Vec<Worker>,
    stop: &Arc<AtomicBool>,
    failed: &Arc<AtomicBool>,
    service: &Arc<Service>,
) -> Result<Vec<JoinHandle<()>>, ApiError> {
    workers
        .into_iter()
        .enumerate()
        .map(|(index, worker)| {
            let (stop, failed, service) = (stop.clone(), failed.clone(), service.clone());
            std::thread::Builder::new()
                .name(format!("worker{index}"))
                .spawn(move || {
                    if let Err(error) = worker.run(&stop, now) {
                        tracing::error!(%error, "a worker cannot go on");
                        failed.store(true, Ordering::Relaxed);
                        service.stop.notify_one();
                    }
                })
                .map_err(|error| internal(&format!("starting a worker: {error}")))
        })
        .collect()
}

async fn end_what_is_gone(service: Arc<Service>) {
    loop {
        service.gone.notified().await;
        service.end_gone().await;
    }
}

/// The signals that end the daemon.
struct EndSignals {
    terminate: Signal,
    /// From a terminal the interrupt comes to keeper and daemon alike; the keeper passes it on as a
    /// termination, and once is enough.
    interrupt: Signal,
}

impl EndSignals {
    fn handle() -> io::Result<EndSignals> {
        Ok(EndSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits until somebody wants the daemon to end, or nobody uses it any more.
async fn wait_for_end(service: &Arc<Service>, options: &Options, signals: &mut EndSignals) {
    loop {
        let idle = async {
            match options.idle_exit {
                Some(time) => super::after(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.come() => return,
            () = service.stop.notified() => return,
            () = service.ended.notified() => {}
            () = idle => {
                if service.core.lock().await.is_idle() {
                    return;
                }
                // Somebody is there: wait until somebody leaves.
                tokio::select! {
                    () = signals.come() => return,
                    () = service.stop.notified() => return,
                    () = service.ended.notified() => {}
                }
            }
        }
    }
}
