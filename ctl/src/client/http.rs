//! Requests over the unix socket.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::autostart::ensure_daemon;
use crate::api::{ApiError, ErrorCode, VERSION, VERSION_HEADER};
use crate::daemon::Sockets;

/// How long a command waits for an answer: longer than anything in the daemon may take.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Talks to a daemon.
#[derive(Debug)]
pub struct Client {
    sockets: Sockets,
    runtime: Runtime,
    /// Whether a daemon was asked for, may be started, and has been told nothing yet.
    expects_daemon: Cell<bool>,
}

impl Client {
    /// A client for the daemon at `socket`. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The system gives no poller.
    pub fn new(socket: PathBuf) -> Result<Client, ApiError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        Ok(Client {
            sockets: Sockets { api: socket },
            runtime,
            expects_daemon: Cell::new(false),
        })
    }

    /// Where the daemon's sockets are.
    #[must_use]
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Whether a daemon answers.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.sockets.api).is_ok()
    }

    /// Asks for something.
    ///
    /// # Errors
    ///
    /// The daemon's, or that there is none.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.request(&Method::GET, path, None::<&()>)
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    ///
    /// The daemon's, or that there is none.
    pub fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ApiError> {
        self.request(&Method::POST, path, Some(body))
    }

    /// Asks for something to be replaced.
    ///
    /// # Errors
    ///
    /// The daemon's, or that there is none.
    pub fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ApiError> {
        self.request(&Method::PUT, path, Some(body))
    }

    /// Asks for something to be removed.
    ///
    /// # Errors
    ///
    /// The daemon's, or that there is none.
    pub fn delete(&self, path: &str) -> Result<(), ApiError> {
        let _: serde_json::Value = self.request(&Method::DELETE, path, None::<&()>)?;
        Ok(())
    }

    fn request<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ApiError> {
        let body = match body {
            Some(body) => serde_json::to_vec(body)
                .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "heddle")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        let stream = self.connect()?;
        read_answer(&self.in_time(exchange(stream, request))??)
    }

    /// Connects. If the daemon that was there a moment ago has left, another one is started.
    fn connect(&self) -> Result<UnixStream, ApiError> {
        let connect = || self.in_time(UnixStream::connect(&self.sockets.api));
        let connected = match connect()? {
            // Nothing was said to it yet, so that nothing is lost with it or done twice.
            Err(error) if is_nobody(&error) && self.expects_daemon.get() => {
                ensure_daemon(self)?;
                connect()?
            }
            connected => connected,
        };
        self.expects_daemon.set(false);
        connected.map_err(|error| self.no_daemon(&error))
    }

    /// The next request is the first to a daemon that may be replaced.
    pub(super) fn expect_daemon(&self) {
        self.expects_daemon.set(true);
    }

    fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, ApiError> {
        let done = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER_TIME, work).await });
        done.map_err(|_| ApiError::new(ErrorCode::Timeout, "the daemon does not answer"))
    }

    fn no_daemon(&self, error: &io::Error) -> ApiError {
        let socket = self.sockets.api.display();
        match error.kind() {
            _ if is_nobody(error) => {
                let message = format!("no daemon answers at {socket}");
                ApiError::new(ErrorCode::NoDaemon, message).hint("start one with: heddle daemon")
            }
            io::ErrorKind::PermissionDenied => {
                let message = format!("the socket {socket} belongs to another user");
                ApiError::new(ErrorCode::NotPermitted, message)
                    .hint("run the command as that user, or name your own with --socket")
            }
            _ => ApiError::new(ErrorCode::NoDaemon, format!("the socket {socket}: {error}")),
        }
    }
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<Answer, ApiError> {
    let broken = |error: hyper::Error| {
        ApiError::new(
            ErrorCode::NoDaemon,
            format!("talking to the daemon: {error}"),
        )
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let version = version_of(&response);
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    driving.abort();
    Ok(Answer {
        is_success: status.is_success(),
        version,
        body,
    })
}

/// Whether an attempt to connect has found nobody who listens.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// What the daemon said.
struct Answer {
    is_success: bool,
    version: Option<String>,
    body: Bytes,
}

fn version_of<B>(response: &Response<B>) -> Option<String> {
    let version = response.headers().get(VERSION_HEADER)?;
    version.to_str().ok().map(str::to_owned)
}

fn read_answer<T: DeserializeOwned>(answer: &Answer) -> Result<T, ApiError> {
    if answer.version.as_deref() != Some(VERSION) {
        let theirs = answer.version.as_deref().unwrap_or("unknown");
        let message = format!("this command is heddle {VERSION}, the daemon is heddle {theirs}");
        return Err(ApiError::new(ErrorCode::VersionMismatch, message)
            .hint("restart the daemon with this version: heddle down, then heddle daemon"));
    }
    let strange = |error: serde_json::Error| {
        ApiError::new(ErrorCode::Internal, format!("the daemon's answer: {error}"))
    };
    if answer.is_success {
        serde_json::from_slice(&answer.body).map_err(strange)
    } else {
        Err(serde_json::from_slice(&answer.body).map_err(strange)?)
    }
}
