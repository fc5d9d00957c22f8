//! Passing descriptors to the daemon.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use heddle_sys::fdpass;

use crate::api::{ApiError, ErrorCode};
use crate::daemon::{Sockets, Token};
use crate::plumb::Parcel;

/// How long the daemon may take to answer: longer than descriptors may have to wait for a place.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Descriptors that were passed. They count as passed as long as this is kept.
#[derive(Debug)]
pub struct Passing {
    _connection: UnixStream,
    token: String,
}

impl Passing {
    /// Passes a parcel.
    ///
    /// # Errors
    ///
    /// The daemon's, or that there is none.
    pub fn pass(sockets: &Sockets, parcel: &Parcel) -> Result<Passing, ApiError> {
        let failed = |error: io::Error| {
            ApiError::new(ErrorCode::NoDaemon, format!("passing descriptors: {error}"))
        };
        let mut connection = UnixStream::connect(sockets.descriptors()).map_err(failed)?;
        connection
            .set_read_timeout(Some(ANSWER_TIME))
            .map_err(failed)?;
        let manifest = serde_json::to_vec(&parcel.manifest())
            .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        let descriptors: Vec<BorrowedFd<'_>> = parcel.descriptors().collect();
        fdpass::send(connection.as_fd(), &manifest, &descriptors).map_err(failed)?;
        let mut answer = [0; 4096];
        let len = connection.read(&mut answer).map_err(failed)?;
        let answer = &answer[..len];
        if let Ok(error) = serde_json::from_slice::<ApiError>(answer) {
            return Err(error);
        }
        let token: Token = serde_json::from_slice(answer)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        Ok(Passing {
            _connection: connection,
            token: token.token,
        })
    }

    /// What names the descriptors in a request.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}
