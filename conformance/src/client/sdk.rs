//! aws-sdk-s3 over this module's connections: the client most replicators use, with its own retries switched off.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use http_body_util::BodyExt;

use super::{Budget, Client, Dialer, SendBody, Style};

/// Which checksums the SDK adds on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdkChecksums {
    /// Its default since 2025: CRC-32 in a trailer wherever the API allows one.
    WhenSupported,
    /// Only where the API demands one.
    WhenRequired,
}

impl Client {
    /// The AWS SDK's client for the same target, budget and connections.
    #[must_use]
    pub fn sdk(&self, checksums: SdkChecksums) -> aws_sdk_s3::Client {
        let target = &self.target;
        let (calculate, validate) = match checksums {
            SdkChecksums::WhenSupported => {
                (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
            }
            SdkChecksums::WhenRequired => {
                (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
            }
        };
        let address = self.dialer.address();
        let token = target.session_token.clone();
        let keys = Credentials::new(&target.access_key, &target.secret_key, token, None, "conformance");
        let connector = Connector { dialer: self.dialer.clone(), budget: self.budget.clone() };
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(target.region.clone()))
            .endpoint_url(format!("{}://{}{}", address.scheme, self.sdk_authority(), address.path))
            .force_path_style(target.style == Style::Path)
            .credentials_provider(keys)
            .request_checksum_calculation(calculate)
            .response_checksum_validation(validate)
            .retry_config(RetryConfig::disabled())
            .http_client(SharedHttpClient::new(connector))
            .interceptor(AddHeaders(target.headers.clone()))
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Virtual-host style is built by the SDK from the endpoint's own name.
    fn sdk_authority(&self) -> String {
        let mut address = self.dialer.address().clone();
        if self.target.style == Style::Virtual {
            address.host = address.domain.clone();
        }
        address.authority_for(None)
    }
}

/// Adds the target's own headers before the request is signed.
#[derive(Debug)]
struct AddHeaders(BTreeMap<String, String>);

#[dyn_dispatch_hint]
impl Intercept for AddHeaders {
    fn name(&self) -> &'static str {
        "AddHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        for (name, value) in &self.0 {
            context.request_mut().headers_mut().insert(name.clone(), value.clone());
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Connector {
    dialer: Dialer,
    budget: Arc<Budget>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let user = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::user(error);
            let request = request.try_into_http1x().map_err(|error| user(error.into()))?;
            let (mut parts, body) = request.into_parts();
            this.budget.charge(body.content_length().unwrap_or(0)).map_err(|error| user(error.into()))?;
            let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
            if let Ok(host) = http::HeaderValue::from_str(&authority) {
                parts.headers.insert("host", host);
            }
            let origin = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            parts.uri = origin.parse().map_err(|error: http::uri::InvalidUri| user(error.into()))?;
            let collected = body.collect().await.map_err(user)?;
            let bytes = collected.to_bytes();
            let build = || {
                let body: SendBody =
                    http_body_util::Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync();
                http::Request::from_parts(parts.clone(), body)
            };
            let response = this
                .dialer
                .exchange(&authority, build(), build)
                .await
                .map_err(|error| ConnectorError::io(Box::new(error)))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| ConnectorError::io(Box::new(error)))?.to_bytes();
            this.budget.charge_answer(body.len() as u64).map_err(|error| user(error.into()))?;
            let response = http::Response::from_parts(parts, SdkBody::from(body));
            HttpResponse::try_from(response).map_err(|error| user(error.into()))
        })
    }
}
