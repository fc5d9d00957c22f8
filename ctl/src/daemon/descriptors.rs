//! The sibling socket, on which descriptors are passed.
//!
//! A client sends one message: a [`Manifest`](crate::plumb::Manifest) as JSON, with the descriptors it lists. It is answered with
//! `{"token": "..."}`, which a request on the API socket then names, or with an error. The connection
//! stays open: an endpoint that was attached by descriptors alone ends with it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use heddle_sys::fdpass;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::listen::Caller;
use super::service::Service;
use crate::api::{ApiError, ErrorCode};
use crate::plumb::Parcel;

/// Octets of a manifest.
const MESSAGE_SPACE: usize = 4 << 10;

/// How long a client may take to say what it passes.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// What names passed descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) token: String,
}

/// Serves one connection.
pub(super) async fn serve(mut stream: UnixStream, caller: Caller, service: Arc<Service>) {
    let (alive, connection) = watch::channel(());
    let received = match tokio::time::timeout(MESSAGE_TIME, receive(&stream)).await {
        Ok(received) => received,
        Err(_) => Err(invalid("no message came")),
    };
    let answer = received
        .and_then(|parcel| {
            service
                .tokens
                .keep(parcel, connection, caller.pid, caller.uid)
        })
        .map(|token| Token { token });
    let failed = answer.is_err();
    let text = match &answer {
        Ok(token) => serde_json::to_vec(token),
        Err(error) => serde_json::to_vec(error),
    };
    let sent = stream.write_all(&text.unwrap_or_default()).await;
    if failed || sent.is_err() {
        return;
    }
    // Nothing more is said; what is read is the end.
    let mut rest = [0; 64];
    while let Ok(1..) = stream.read(&mut rest).await {}
    drop(alive);
}

async fn receive(stream: &UnixStream) -> Result<Parcel, ApiError> {
    let mut space = vec![0; MESSAGE_SPACE];
    let received = loop {
        stream
            .readable()
            .await
            .map_err(|error| invalid(&error.to_string()))?;
        let attempt = stream.try_io(Interest::READABLE, || {
            fdpass::receive(stream.as_fd(), &mut space, fdpass::MAX_FDS)
        });
        match attempt {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(invalid(&error.to_string())),
            Ok(received) => break received,
        }
    };
    if received.fds_truncated {
        let message = "the daemon has not enough file descriptors for those passed";
        return Err(ApiError::new(ErrorCode::DescriptorLimit, message)
            .hint("raise the limit (ulimit -Hn, or LimitNOFILE= in the unit)"));
    }
    let manifest = serde_json::from_slice(&space[..received.len])
        .map_err(|error| invalid(&format!("the message is no manifest: {error}")))?;
    Parcel::assemble(&manifest, received.fds)
        .ok_or_else(|| invalid("there are not as many descriptors as the manifest lists"))
}

fn invalid(problem: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidDescriptor,
        format!("passing descriptors: {problem}"),
    )
}
