//! What can go wrong below HTTP, and whether the server may have acted on the request.

use std::error::Error as StdError;
use std::fmt;

use aws_smithy_runtime_api::client::result::ConnectorError;

use super::connection::Target;

type BoxError = Box<dyn StdError + Send + Sync>;

/// How far a failed request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// No byte of it was sent.
    Nothing,
    /// It may have been applied.
    Perhaps,
}

/// A failure of transport.
#[derive(Debug)]
pub(crate) struct TransportFault {
    /// How far the request got.
    pub reached: Reached,
    /// The connection had served an earlier request; servers close those at will.
    pub reused_connection: bool,
    /// Repeating it cannot help.
    pub permanent: bool,
    message: String,
    source: BoxError,
}

impl TransportFault {
    /// The server was not reached.
    pub(super) fn unreached(target: &Target, error: std::io::Error) -> Self {
        let certificate = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
        let advice = if certificate {
            " (name the authority's certificate in AWS_CA_BUNDLE, or set skip-verify)"
        } else {
            ""
        };
        Self {
            reached: Reached::Nothing,
            reused_connection: false,
            permanent: certificate,
            message: format!("cannot connect to {target}{advice}"),
            source: error.into(),
        }
    }

    /// The request cannot be sent as it is.
    pub(super) fn invalid(source: BoxError) -> Self {
        Self {
            reached: Reached::Nothing,
            reused_connection: false,
            permanent: true,
            message: "the request is malformed".to_owned(),
            source,
        }
    }

    /// The connection broke after the request was begun.
    pub(super) fn broken(source: BoxError) -> Self {
        Self {
            reached: Reached::Perhaps,
            reused_connection: false,
            permanent: false,
            message: "the connection broke".to_owned(),
            source,
        }
    }

    /// Nothing moved for too long.
    pub(super) fn silent(doing: &str, limit: std::time::Duration) -> Self {
        Self {
            reached: Reached::Perhaps,
            reused_connection: false,
            permanent: false,
            message: format!("no progress for {limit:?} while {doing}"),
            source: std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
        }
    }
}

impl fmt::Display for TransportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for TransportFault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

impl From<TransportFault> for ConnectorError {
    fn from(fault: TransportFault) -> Self {
        ConnectorError::io(Box::new(fault))
    }
}
