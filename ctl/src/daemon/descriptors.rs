//! The sibling socket, on which descriptors are passed.
//!
//! A client sends one message: a [`Manifest`] as JSON, with the descriptors it lists. It is answered with
//! `{"token": "..."}`, which a request on the API socket then names, or with an error. The connection
//! stays open: an endpoint that was attached by descriptors alone ends with it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use heddle_sys::fdpass::Received;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::connection::ClientStream;
use super::foreign;
use super::listen::Caller;
use super::quota::Place;
use super::service::Service;
use super::tokens::{self, Connection, Passed, Tokens};
use crate::api::{ApiError, ErrorCode};
use crate::plumb::{Manifest, Parcel};

/// Octets of a manifest.
const MESSAGE_SPACE: usize = 4 << 10;

/// How long a client may take to say what it passes.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// How long descriptors wait for a request that names them.
const PATIENCE: Duration = Duration::from_secs(30);

/// What names passed descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) token: String,
}

/// Serves one connection.
pub(super) async fn serve(mut stream: ClientStream, caller: Caller, service: Arc<Service>) {
    let (alive, connection) = watch::channel(());
    let answer = take_up(&stream, &caller, connection, &service.tokens).await;
    let text = match &answer {
        Ok(token) => serde_json::to_vec(token),
        Err(error) => serde_json::to_vec(error),
    };
    let sent = stream.write_all(&text.unwrap_or_default()).await;
    let Ok(Token { token }) = answer else {
        return;
    };
    if sent.is_ok() {
        let named_in_time = tokio::time::timeout(PATIENCE, end_of(&mut stream)).await;
        if named_in_time.is_err() && !service.tokens.forget(&token) {
            end_of(&mut stream).await;
        }
    }
    service.tokens.forget(&token);
    drop(alive);
}

/// Waits for the end of a connection on which nothing more is said.
async fn end_of(stream: &mut ClientStream) {
    let mut rest = [0; 64];
    while let Ok(1..) = stream.read(&mut rest).await {}
}

/// Receives a parcel and keeps it.
async fn take_up(
    stream: &ClientStream,
    caller: &Caller,
    connection: Connection,
    tokens: &Tokens,
) -> Result<Token, ApiError> {
    let mut space = vec![0; MESSAGE_SPACE];
    let (received, place) = receive(stream, caller, tokens, &mut space).await?;
    let manifest = match read_manifest(&space[..received.len], &received) {
        Ok(manifest) => manifest,
        Err(error) => {
            foreign::close(received.fds, place);
            return Err(error);
        }
    };
    let parcel = Parcel::assemble(&manifest, received.fds).ok_or_else(miscounted)?;
    if !foreign::is_as_said(&parcel) {
        foreign::close(parcel, place);
        let message = "there are others than queues of a TAP, a packet socket and a pidfd";
        return Err(invalid(message));
    }
    let token = tokens::unguessable()?;
    let passed = Passed {
        parcel,
        connection,
        pid: caller.pid,
    };
    tokens.keep(token.clone(), passed, caller.uid, place);
    Ok(Token { token })
}

/// Receives the one message. Until there is a place for what it brings, it stays where it is; and who
/// says nothing has no place.
async fn receive(
    stream: &ClientStream,
    caller: &Caller,
    tokens: &Tokens,
    space: &mut [u8],
) -> Result<(Received, Place), ApiError> {
    let broken = |error: io::Error| invalid(&error.to_string());
    loop {
        let something = tokio::time::timeout(MESSAGE_TIME, stream.readable()).await;
        something
            .map_err(|_| invalid("no message came"))?
            .map_err(broken)?;
        let place = tokens.place(caller.uid).await?;
        match stream.try_receive(space) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return Ok((received.map_err(broken)?, place)),
        }
    }
}

/// Reads the manifest of what was received; it lists as many descriptors as have come.
fn read_manifest(text: &[u8], received: &Received) -> Result<Manifest, ApiError> {
    if received.fds_truncated {
        let message = "the daemon has not enough file descriptors for those passed";
        return Err(ApiError::new(ErrorCode::DescriptorLimit, message)
            .hint("raise the limit (ulimit -Hn, or LimitNOFILE= in the unit)"));
    }
    let manifest: Manifest = serde_json::from_slice(text)
        .map_err(|error| invalid(&format!("the message is no manifest: {error}")))?;
    let listed = usize::from(manifest.links) + usize::from(manifest.process);
    if manifest.links == 0 || listed != received.fds.len() {
        return Err(miscounted());
    }
    Ok(manifest)
}

fn miscounted() -> ApiError {
    invalid("there are not as many descriptors as the manifest lists")
}

fn invalid(problem: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidDescriptor,
        format!("passing descriptors: {problem}"),
    )
}
