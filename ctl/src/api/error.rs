//! What went wrong, in the user's terms.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What kind of thing went wrong: stable, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request is not what this path takes.
    InvalidRequest,
    /// No such path or method.
    UnknownPath,
    /// The request body is too large.
    TooLarge,
    /// The client may not do this.
    NotPermitted,
    /// The name is malformed.
    InvalidName,
    /// The name is taken.
    NameTaken,
    /// There is no such network.
    UnknownNetwork,
    /// There is no such sandbox, or it is not in this network.
    UnknownSandbox,
    /// The network still has endpoints, or others route to it.
    NetworkInUse,
    /// A subnet, gateway or route is not possible.
    InvalidSubnet,
    /// A subnet overlaps another one.
    SubnetOverlap,
    /// The pools have no subnet left.
    PoolExhausted,
    /// An address is not possible here.
    InvalidAddress,
    /// An address is taken.
    AddressTaken,
    /// A network has no address left.
    AddressesExhausted,
    /// A port specification is malformed.
    InvalidPort,
    /// A port is published already.
    PortTaken,
    /// There is no such published port.
    UnknownPort,
    /// A filter rule makes no sense, or names what does not exist.
    InvalidRule,
    /// There is no such filter rule.
    UnknownRule,
    /// The network has no way out.
    NoUplink,
    /// The way out cannot be used.
    UplinkFailed,
    /// The process is gone.
    ProcessGone,
    /// The namespace cannot be entered.
    NamespaceForbidden,
    /// The path is not a network namespace.
    NotANamespace,
    /// It is the daemon's own network namespace.
    OwnNamespace,
    /// `/dev/net/tun` cannot be used.
    NoTun,
    /// An interface of that name exists in the sandbox.
    InterfaceTaken,
    /// Not enough file descriptors.
    DescriptorLimit,
    /// More endpoints, networks or legs than a switch has numbers.
    TooMany,
    /// The passed descriptors are not what was announced.
    InvalidDescriptor,
    /// Setting up the interface failed.
    PlumbingFailed,
    /// Client and daemon are of different versions.
    VersionMismatch,
    /// No daemon answers.
    NoDaemon,
    /// A daemon runs already.
    DaemonRuns,
    /// The store cannot be used.
    StoreFailed,
    /// It took too long.
    Timeout,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::InvalidRequest
            | ErrorCode::InvalidName
            | ErrorCode::InvalidSubnet
            | ErrorCode::InvalidAddress
            | ErrorCode::InvalidPort
            | ErrorCode::InvalidRule
            | ErrorCode::InvalidDescriptor
            | ErrorCode::NotANamespace
            | ErrorCode::OwnNamespace
            | ErrorCode::VersionMismatch => 400,
            ErrorCode::NotPermitted | ErrorCode::NamespaceForbidden | ErrorCode::NoTun => 403,
            ErrorCode::UnknownPath
            | ErrorCode::UnknownNetwork
            | ErrorCode::UnknownSandbox
            | ErrorCode::UnknownPort
            | ErrorCode::UnknownRule
            | ErrorCode::ProcessGone => 404,
            ErrorCode::NameTaken
            | ErrorCode::NetworkInUse
            | ErrorCode::SubnetOverlap
            | ErrorCode::AddressTaken
            | ErrorCode::PortTaken
            | ErrorCode::InterfaceTaken
            | ErrorCode::NoUplink
            | ErrorCode::DaemonRuns => 409,
            ErrorCode::TooLarge => 413,
            ErrorCode::Internal | ErrorCode::StoreFailed | ErrorCode::PlumbingFailed => 500,
            ErrorCode::NoDaemon | ErrorCode::UplinkFailed => 502,
            ErrorCode::PoolExhausted
            | ErrorCode::AddressesExhausted
            | ErrorCode::DescriptorLimit
            | ErrorCode::TooMany => 507,
            ErrorCode::Timeout => 504,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name is the one on the wire; a unit variant always serialises to a string.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => formatter.write_str(&name),
            _ => write!(formatter, "{self:?}"),
        }
    }
}

/// What went wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// The kind.
    pub code: ErrorCode,
    /// What went wrong: which endpoint, which port, who holds it.
    pub message: String,
    /// What to do about it, where something can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{}", .error.message)]
pub struct ApiError {
    /// The error.
    pub error: ErrorDetail,
}

impl ApiError {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError {
            error: ErrorDetail {
                code,
                message: message.into(),
                hint: None,
            },
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> ApiError {
        self.error.hint = Some(hint.into());
        self
    }

    /// The same with a hint, if there is one.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> ApiError {
        self.error.hint = hint.map(Into::into);
        self
    }

    /// The kind.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.error.code
    }
}
